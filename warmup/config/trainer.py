"""Optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from warmup.config.fields import choice, number
from warmup.errors import UserError, wrong_value


@dataclass
class TrainerConfig:
    """Optimisation, passed to the Hugging Face Trainer."""

    max_steps: int = number(-1, -1)  # -1: as many as `epochs` needs
    epochs: float | None = number(None, 1e-6, 1e6)
    batch_size: int = number(16, 1, 65536)  # per device
    gradient_accumulation_steps: int = number(1, 1, 65536)
    learning_rate: float = number(1e-3, 1e-9, 10.0)
    optimizer: str = choice("adamw", "adamw", "adafactor")
    weight_decay: float = number(0.0, 0.0, 1.0)
    schedule: str = choice("linear", "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
    lr_warmup_steps: int = number(0, 0)
    max_grad_norm: float = number(1.0, 0.0, 1e6)  # 0 switches clipping off
    precision: str = choice("auto", "auto", "float32", "bfloat16")  # auto: bfloat16 on CUDA where it has it
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    evaluate_by: str = choice("epoch", "epoch", "steps")
    evaluate_every: int = number(100, 1)  # steps, when evaluate_by=steps
    early_stopping_patience: int = number(0, 0)  # evaluations without a better dev score; 0 never stops early
    keep_checkpoints: int = number(1, 1, 1000)  # beside the best one
    logging_steps: int = number(10, 1)

    def check(self) -> None:
        """See that steps or epochs say when training ends.

        Raises:
            UserError: both do, or neither.
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
