"""A training as trackers see it: the Trainer's entries, with its speed and its memory beside them."""

from __future__ import annotations

import copy
import resource
import sys
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.models.families import Model
from warmup.tracking.best_effort import best_effort
from warmup.training.batches import EncodedExamples


class TrackedTraining(TrainerCallback):
    """Hands the Trainer's events to the callbacks of trackers, by name; a resumed training hands on the earlier ones.

    The callbacks see the plain Hugging Face model, so that they find its configuration. Samples are counted by epochs,
    so that they are exact for whole ones; tokens are those of sources and targets.
    """

    def __init__(self, trackers: Mapping[str, TrainerCallback], model: Model, examples: EncodedExamples) -> None:
        self.trackers, self.model = trackers, model
        self.samples = len(examples)
        self.tokens = examples.tokens
        self.epoch: float = 0.0  # at the entry before
        self.seconds: float = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._tell("on_train_begin", args, state, control)
        for entry in state.log_history:
            then = copy.copy(state)
            then.global_step = int(entry["step"])
            self._tell("on_log", args, then, control, logs=self._with_speed(entry))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        entry = {**self._with_speed(logs or {}), "peak_memory_gb": round(peak_memory(), 3)}
        self._tell("on_log", args, state, control, logs=entry)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._tell("on_train_end", args, state, control)

    def _with_speed(self, entry: Mapping[str, float]) -> dict[str, float]:
        """An entry with the speed since the one before, where it is of training steps."""
        now = {name: value for name, value in entry.items() if name != "step"}
        if "loss" not in entry or "epoch" not in entry:
            return now
        epochs, seconds = entry["epoch"] - self.epoch, entry["seconds"] - self.seconds
        self.epoch, self.seconds = entry["epoch"], entry["seconds"]
        if seconds <= 0:
            return now
        speed = {"samples_per_second": self.samples, "tokens_per_second": self.tokens}
        return now | {name: round(count * epochs / seconds, 3) for name, count in speed.items() if count}

    def _tell(self, event: str, *state: Any, **what: Any) -> None:
        for name, callback in self.trackers.items():
            with best_effort(name, event.removeprefix("on_").replace("_", " ")):
                getattr(callback, event)(*state, model=self.model, **what)


def peak_memory() -> float:
    """The most memory that this process has taken so far, in GB (1e9 bytes): of the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    units = 1 if sys.platform == "darwin" else 1024  # which is what Linux counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * units / 1e9
