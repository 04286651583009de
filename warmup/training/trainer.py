"""The Hugging Face Trainer, changed where the method needs it: dev score by decoding, gauges, plain checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from warmup.errors import UserError
from warmup.models.checkpoints import read_checkpoint
from warmup.models.loading import save
from warmup.training.method_model import MethodModel

log = logging.getLogger(__name__)
COLLAPSED = 0.05  # nats of a warmup token, below which hardly anything is chosen
STATE_PREFIX = "model."  # of the wrapped model's weights in MethodModel's state


class EncodedExamples(Dataset):
    """Token ids of sources and targets, made once before training."""

    def __init__(self, sources: list[list[int]], targets: list[list[int]]) -> None:
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"source": self.sources[index], "target": self.targets[index]}


class ShuffledSampler(Sampler):
    """A fresh order each epoch that depends on seed and epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, lengths: list[int], batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths, self.batch_size, self.group_by_length, self.seed = lengths, batch_size, group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.group_by_length:
            return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))
        return iter(torch.randperm(len(self.lengths), generator=generator).tolist())


class StepCounter(TrainerCallback):
    """Tells the model which optimiser step it is in (for the SFT warm start), and has the last step evaluated."""

    def __init__(self, model: MethodModel) -> None:
        self.model = model

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.model.step, self.model.total_steps = state.global_step, state.max_steps
        step = state.global_step + 1
        self.model.measures = step == 1 or step % state.logging_steps == 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = control.should_save = True


class Stopwatch:
    """Seconds that run, pauses left out."""

    def __init__(self) -> None:
        self.earlier, self.started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def restart(self, earlier: float) -> None:
        """Go on from `earlier` seconds."""
        self.earlier, self.started = earlier, time.monotonic()


class WarmupTrainer(Trainer):
    """Trains a `MethodModel`; `score` decodes the dev set and returns its metrics."""

    def __init__(
        self,
        model: MethodModel,
        args: TrainingArguments,
        train_dataset: EncodedExamples,
        group_by_length: bool,
        settings: dict[str, Any],
        score: Callable[[], dict[str, float]],
        **keywords: Any,
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=train_dataset, **keywords
        )  # eval_dataset: the Trainer insists on one to evaluate at all; `score` holds the real dev set
        self.method_model = model
        self.group_by_length = group_by_length
        self.settings = settings
        self.score = score
        self.clock = Stopwatch()
        self.warned = False  # of a collapse
        self.add_callback(StepCounter(model))

    def _get_train_sampler(self, *_: Any) -> Sampler:
        assert isinstance(self.train_dataset, EncodedExamples)
        lengths = [len(s) + len(t) for s, t in zip(self.train_dataset.sources, self.train_dataset.targets, strict=True)]
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return ShuffledSampler(lengths, together, self.group_by_length, self.args.seed)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Decode the dev set; called by the Trainer at every evaluation."""
        trained = self.clock.seconds
        metrics = {f"eval_{name}": value for name, value in self.score().items()}
        self.clock.restart(trained)  # decoding the dev set is no training time
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        """Add the method's gauges and the training time to each entry, and show it as one short line.

        Raises:
            UserError: the loss is not a number, so that going on would only waste time.
        """
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise UserError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}: try a lower trainer.learning_rate, "
                    "trainer.max_grad_norm=1, or trainer.precision=float32"
                )
            logs = {**logs, **self.method_model.take_gauges()}
            self._warn_of_collapse(logs)
        logs = {**logs, "seconds": round(self.clock.seconds, 3)}
        super().log(logs, *rest)
        if self.is_world_process_zero() and not logs.keys() & {"train_runtime"}:
            log.info("step %d/%d  %s", self.state.global_step, self.state.max_steps, _short(logs))

    def _warn_of_collapse(self, logs: dict[str, float]) -> None:
        """Once: warmups are drawn with next to no choice, or are one and the same string (design, section 1)."""
        entropy = logs.get("warmup/token_entropy")
        if entropy is None or self.warned or not self.is_world_process_zero():
            return
        one_string = logs["warmup/distinct"] == 1 and logs["warmup/distinct_inputs"] == 0
        if entropy < COLLAPSED or (one_string and self.args.per_device_train_batch_size > 1):
            self.warned = True
            log.warning(
                "the warmups have collapsed: %.3f nats per token, %.3g different ones of an input, at step %d. "
                "What helps: method.baseline=mean, a warm start (method.sft_steps), a larger method.entropy_coef, "
                "a lower trainer.learning_rate",
                entropy,
                logs["warmup/distinct"],
                self.state.global_step,
            )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """A checkpoint's weights are the plain model, loadable on its own."""
        folder = Path(output_dir or str(self.args.output_dir))
        state = state_dict if state_dict is None else _unwrapped(state_dict)
        save(self.method_model.backbone, folder, self.settings, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._load_weights(resume_from_checkpoint)
        state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
        self.clock.restart(max((entry.get("seconds", 0.0) for entry in state.log_history), default=0.0))

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None:
            return
        log.info("best checkpoint: %s (%s = %.4g)", best, self.args.metric_for_best_model, self.state.best_metric)
        self._load_weights(best)

    def _load_weights(self, checkpoint: str) -> None:
        inner = self.method_model.model
        inner.load_state_dict(read_checkpoint(checkpoint, local_files_only=True).model.state_dict())


def _short(logs: dict[str, float]) -> str:
    """`loss 2.31  target_nll 2.30 ...`, without what is the same in every line."""
    hidden = {"epoch", "grad_norm", "seconds"}
    return "  ".join(
        f"{name.removeprefix('warmup/')} {value:.4g}" for name, value in logs.items() if name not in hidden
    )


def _unwrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(STATE_PREFIX): value for name, value in state.items()}
