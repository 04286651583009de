"""What is looked at in each step: losses and gradients that are not finite, losses that jump, warmups that collapse."""

from __future__ import annotations

import logging
import math
from collections import deque
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.errors import UserError
from warmup.files import write_json
from warmup.training.processes import is_main_process, true_anywhere
from warmup.training.progress import Progress
from warmup.training.results import SKIPPED_STEPS_FILE

log = logging.getLogger(__name__)
MOST_SKIPPED = 5  # skipped steps; the next one would hardly be another
RECENT = 20  # steps that are written down when a run stops
COLLAPSED = 0.05  # nats of a warmup token, below which hardly anything is chosen
JUMP, RISE = 5, 2  # times the lowest loss, and times the first one: far above a good start


class StepGuard(TrainerCallback):
    """Skips an optimiser step whose loss or gradient is not finite: weights, moments and gauges stay as they were.

    Attributes:
        examples: which training examples this process reads in this step, as indices.
        loss: of this process in this step.
        norm: of the gradient of all processes, before it is clipped.
    """

    def __init__(self, progress: Progress, folder: Path) -> None:
        self.progress, self.folder = progress, folder
        self.examples: list[int] = []
        self.loss = 0.0
        self.norm: Tensor | float = 0.0
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Raises UserError, with what led there written down, when too many steps in a row are skipped."""
        step, norm = state.global_step + 1, float(self.norm)
        rate = optimizer.param_groups[0]["lr"]
        figures = {"loss": self.loss, "learning_rate": rate, "gradient_norm": norm}
        self.recent.append({"step": step, "examples": self.examples, **figures})
        if not true_anywhere(not (math.isfinite(self.loss) and math.isfinite(norm)), args.device):
            self.progress.skipped_in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)  # a parameter without a gradient is left alone, and so are its moments
        self.progress.skip_step()
        most = min(MOST_SKIPPED, state.max_steps)
        said = f"loss {self.loss:.4g}, gradient norm {norm:.4g}, learning rate {rate:.3g}"
        log.warning("step %d is skipped: %s (%d in a row, of %d)", step, said, self.progress.skipped_in_a_row, most)
        if self.progress.skipped_in_a_row >= most:
            self._stop(step, said, most)

    def _stop(self, step: int, said: str, most: int) -> None:
        path = self.folder / SKIPPED_STEPS_FILE
        processes = gather_object([list(self.recent)])
        if is_main_process():
            write_json(path, [_of_all(records) for records in zip(*processes, strict=True)])
        raise UserError(
            f"{most} steps in a row had a loss or a gradient that is not finite, up to step {step} ({said}); {path} "
            "has the steps before it: try a lower trainer.learning_rate, trainer.max_grad_norm=1, or "
            "trainer.precision=float32"
        )

    def warn_of_a_jump(self, loss: float, step: int) -> None:
        """Once: a logged loss is far above what a good start had."""
        progress = self.progress
        if progress.first_loss is None or progress.lowest_loss is None:
            progress.first_loss = progress.lowest_loss = loss
        progress.lowest_loss = min(progress.lowest_loss, loss)
        far = max(JUMP * progress.lowest_loss, RISE * max(progress.first_loss, 1.0))
        if loss <= far or progress.jumped:
            return
        progress.jumped = True
        if is_main_process():
            log.warning(
                "the loss is %.4g at step %d, after %.4g: training has diverged, and may not come back. What helps: a "
                "lower trainer.learning_rate, trainer.max_grad_norm=1, more trainer.lr_warmup_steps",
                loss,
                step,
                progress.lowest_loss,
            )

    def warn_of_a_collapse(self, logs: dict[str, float], step: int, batch_size: int) -> None:
        """Once: warmups are drawn with next to no choice, or are one and the same string (docs/method.md)."""
        entropy = logs.get("warmup/token_entropy")
        if entropy is None or self.progress.warned or not is_main_process():
            return
        one_string = logs["warmup/distinct"] == 1 and logs["warmup/distinct_inputs"] == 0
        if entropy < COLLAPSED or (one_string and batch_size > 1):
            self.progress.warned = True
            log.warning(
                "the warmups have collapsed: %.3f nats per token, %.3g different ones of an input, at step %d. "
                "What helps: method.baseline=mean, a warm start (method.sft_steps), a larger method.entropy_coef, "
                "a lower trainer.learning_rate",
                entropy,
                logs["warmup/distinct"],
                step,
            )


def _of_all(records: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One step's records of all processes as one; JSON has no number for what is not finite."""
    loss = sum(record["loss"] for record in records) / len(records)
    joined = {**records[0], "examples": [index for record in records for index in record["examples"]], "loss": loss}
    return {
        name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
        for name, value in joined.items()
    }
