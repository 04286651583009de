"""Optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from warmup.config.fields import choice, number
from warmup.config.further_arguments import FurtherArguments
from warmup.errors import UserError, wrong_value

STEPS_BEFORE_PROFILE = 2  # of a training, which load what later ones find
MOST_STEPS = 10**9  # at a thousand steps a second they take twelve days


@dataclass
class TrainerConfig:
    """Optimisation, passed to the Hugging Face Trainer."""

    max_steps: int = number(-1, -1, MOST_STEPS)  # -1: as many as `epochs` needs
    epochs: float | None = number(None, 1e-6, 1e6)
    batch_size: int = number(16, 1, 65536)  # per device
    gradient_accumulation_steps: int = number(1, 1, 65536)
    learning_rate: float = number(1e-3, 1e-9, 10.0)
    optimizer: str = choice("adamw", "adamw", "adafactor")
    weight_decay: float = number(0.0, 0.0, 1.0)
    schedule: str = choice("linear", "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
    lr_warmup_steps: int = number(0, 0, MOST_STEPS)
    max_grad_norm: float = number(1.0, 0.0, 1e6)  # 0 switches clipping off
    precision: str = choice("auto", "auto", "float32", "bfloat16")  # auto: bfloat16 on CUDA where it has it
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    evaluate_by: str = choice("epoch", "epoch", "steps")
    evaluate_every: int = number(100, 1, MOST_STEPS)  # steps, when evaluate_by=steps
    early_stopping_patience: int = number(0, 0, MOST_STEPS)  # evaluations without a better score; 0: never
    keep_checkpoints: int = number(1, 1, 1000)  # beside the best one
    average_checkpoints: int = number(1, 1, 1000)  # the model is the mean of the last N evaluated; 1: the best one
    logging_steps: int = number(10, 1, MOST_STEPS)
    profile_steps: int | None = number(None, 1, 1000)  # that torch's profiler follows
    arguments: FurtherArguments = field(default_factory=FurtherArguments)

    def check(self) -> None:
        """See that steps or epochs say when training ends, and that it evaluates often enough.

        Raises:
            UserError: both do, or neither; or there are fewer checkpoints than are to be averaged.
        """
        if self.max_steps == 0:
            raise wrong_value("trainer.max_steps", 0, "-1 (as trainer.epochs says) or at least 1")
        if self.max_steps > 0 and self.epochs is not None:
            raise UserError(
                f"trainer.epochs={self.epochs:g} and trainer.max_steps={self.max_steps} are both set; "
                "allowed: one of them (trainer.max_steps=-1 goes by trainer.epochs)"
            )
        if self.max_steps < 0 and self.epochs is None:
            raise UserError("trainer.epochs is not set, and trainer.max_steps=-1 goes by it: give trainer.epochs=VALUE")
        self._check_average()
        self.arguments.check(self.optimizer, self.schedule)
        last = (self.profile_steps or 0) + STEPS_BEFORE_PROFILE
        if self.profile_steps and 0 < self.max_steps < last:
            allowed = f"{STEPS_BEFORE_PROFILE} less than trainer.max_steps={self.max_steps}, or null"
            raise wrong_value("trainer.profile_steps", self.profile_steps, allowed)

    def _check_average(self) -> None:
        """What the data decides too is checked when training begins."""
        if self.evaluate_by == "steps" and self.max_steps > 0:
            self.check_evaluations(math.ceil(self.max_steps / self.evaluate_every))
        if self.evaluate_by == "epoch" and self.epochs is not None:
            self.check_evaluations(math.ceil(self.epochs))
        fewest = self.early_stopping_patience + 1
        if self.early_stopping_patience and self.average_checkpoints > fewest:
            reason = f"trainer.early_stopping_patience={self.early_stopping_patience} may end training after so many"
            raise wrong_value("trainer.average_checkpoints", self.average_checkpoints, f"1 to {fewest}: {reason}")

    def check_evaluations(self, count: int) -> None:
        """See that a training with `count` evaluations has as many checkpoints as are to be averaged.

        Raises:
            UserError: it has fewer.
        """
        if self.average_checkpoints > count:
            allowed = f"1 to {count}, the number of evaluations in this training"
            raise wrong_value("trainer.average_checkpoints", self.average_checkpoints, allowed)
