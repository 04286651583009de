"""`trainer.profile_steps`: where the time of a few optimiser steps goes, by torch's profiler."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.config.trainer import STEPS_BEFORE_PROFILE
from warmup.files import write_text
from warmup.training.results import PROFILE_FILE, TRACE_FILE

TABLE_ROWS = 40  # of the table
log = logging.getLogger(__name__)


class ProfileSteps(TrainerCallback):
    """Follows `steps` optimiser steps behind the first ones, which load kernels, and writes into `folder`."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        order = schedule(wait=STEPS_BEFORE_PROFILE - 1, warmup=1, active=steps, repeat=1)
        self.on_cuda = torch.cuda.is_available()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_cuda else [])]
        self.profiler = profile(activities=activities, schedule=order, on_trace_ready=self._write)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.profiler.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.profiler.step()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.profiler.stop()

    def _write(self, found: profile) -> None:
        order = "self_cuda_time_total" if self.on_cuda else "self_cpu_time_total"
        write_text(self.folder / PROFILE_FILE, found.key_averages().table(sort_by=order, row_limit=TABLE_ROWS) + "\n")
        unfinished = self.folder / f".{TRACE_FILE}"
        found.export_chrome_trace(str(unfinished))
        os.replace(unfinished, self.folder / TRACE_FILE)
        log.info("profile: %s, and for chrome://tracing %s", self.folder / PROFILE_FILE, self.folder / TRACE_FILE)
