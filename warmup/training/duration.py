"""How long a training will take, said once its first steps are done: a slip of the keyboard may ask for years."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MEASURED_STEPS = 5
LONG = timedelta(days=2)
log = logging.getLogger(__name__)


class SayDuration(TrainerCallback):
    """Warns of a training that goes on for days."""

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None  # the step that was done first, and when

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Behind the first step, which is slower than the others, `MEASURED_STEPS` are timed."""
        step, now = state.global_step, time.monotonic()
        if self.first is None:
            self.first = step, now
        if step - self.first[0] == MEASURED_STEPS:
            seconds = (now - self.first[1]) / MEASURED_STEPS
            left = seconds * (state.max_steps - step)
            if left > LONG.total_seconds():
                log.warning(
                    "%d steps of about %.2g s are left: %.0f days (trainer.max_steps, trainer.epochs)",
                    state.max_steps - step,
                    seconds,
                    left / 86400,
                )
