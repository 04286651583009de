"""The Hugging Face Trainer, changed where the method needs it: dev score by decoding, gauges, plain checkpoints."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.config.schema import TrainerConfig
from warmup.errors import UserError
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.loading import load_weights, save
from warmup.training.batches import EncodedExamples, EpochLoader, SharedBatches, ShuffledSampler
from warmup.training.checkpoints import checkpoint_at, evaluated_steps, mean_weights, read_state
from warmup.training.interruption import INTERRUPTION, Interrupted
from warmup.training.method_model import MethodModel
from warmup.training.progress import Stopwatch

log = logging.getLogger(__name__)
COLLAPSED = 0.05  # nats of a warmup token, below which hardly anything is chosen
STATE_PREFIX = "model."  # of the wrapped model's weights in MethodModel's state


class StepCounter(TrainerCallback):
    """Tells the model which optimiser step it is in (for the SFT warm start), and has the last step evaluated."""

    def __init__(self, model: MethodModel, config: TrainerConfig) -> None:
        self.model, self.config = model, config

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Only now is it known how often a training evaluates whose steps or epochs the data decides.

        Raises:
            UserError: too seldom for the checkpoints that are to be averaged.
        """
        if state.global_step < state.max_steps:  # of one that has ended, the state does not say all
            by_steps = math.ceil(state.max_steps / self.config.evaluate_every)
            by_epoch = state.num_train_epochs
            self.config.check_evaluations(by_steps if self.config.evaluate_by == "steps" else by_epoch)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.model.step, self.model.total_steps = state.global_step, state.max_steps
        step = state.global_step + 1
        self.model.measures = step == 1 or step % state.logging_steps == 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = control.should_save = True


class StopWhenAsked(TrainerCallback):
    """Saves behind the step in which a signal came, and ends the training behind that checkpoint, on all processes."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        ends_epoch = state.epoch is not None and state.epoch == int(state.epoch)
        evaluates_later = args.eval_strategy == "epoch" and ends_epoch  # or it would go on behind its evaluation
        if _asked_of_any(args) and not evaluates_later:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if _asked_of_any(args):
            INTERRUPTION.saved = state.global_step
            raise Interrupted(INTERRUPTION.asked or signal.SIGTERM)


def _asked_of_any(args: TrainingArguments) -> bool:
    """Whether a signal came to any process: they stop at the same step, or wait for each other for ever."""
    asked = INTERRUPTION.asked is not None
    if args.world_size == 1:
        return asked
    flag = torch.tensor(int(asked), device=args.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())


class WarmupTrainer(Trainer):
    """Trains a `MethodModel`; `score` decodes the dev set and returns its metrics."""

    def __init__(
        self,
        model: MethodModel,
        args: TrainingArguments,
        train_dataset: EncodedExamples,
        config: TrainerConfig,
        settings: CheckpointSettings,
        score: Callable[[], dict[str, float]],
        **keywords: Any,
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=train_dataset, **keywords
        )  # eval_dataset: the Trainer insists on one to evaluate at all; `score` holds the real dev set
        self.method_model = model
        self.config = config
        self.settings = settings
        self.score = score
        self.clock = Stopwatch()
        self.progress = model.progress
        self.add_callback(StepCounter(model, config))
        self.add_callback(StopWhenAsked())

    def get_train_dataloader(self) -> EpochLoader:
        """This process's share of each global batch."""
        data = self.train_dataset
        assert isinstance(data, EncodedExamples)
        lengths = [len(source) + len(target) for source, target in zip(data.sources, data.targets, strict=True)]
        together = self.args.train_batch_size * self.args.world_size
        step = together * self.args.gradient_accumulation_steps
        order = ShuffledSampler(lengths, step, self.config.group_by_length, self.args.seed)
        return EpochLoader(
            data,
            batch_sampler=SharedBatches(order, together, self.args.world_size, self.args.process_index),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any, **keywords: Any) -> Tensor:
        """One batch; its loss is summed up here too, since the Trainer's sum does not outlive the process."""
        loss = super().training_step(model, inputs, *rest, **keywords)
        self.progress.loss += loss.item()
        return loss

    def end_from(self, checkpoint: Path, state: TrainerState) -> None:
        """What `train` does after the last step, for a training that had come so far: no further step is taken."""
        self._restore(checkpoint, state)
        self.take_over(state, checkpoint)
        self._load_best_model()
        self.log({"train_loss": 0.0})

    def take_over(self, state: TrainerState, model: Path) -> None:
        """Be where another training ended, with the weights that are saved in `model`."""
        self.state = state
        self._load_weights(model)
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)

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
            loss, gauges = self.progress.take(self.state.global_step)
            self._check_loss(loss)
            logs = {**logs, "loss": round(loss, 4), **gauges}
            self._warn_of_collapse(logs)
        closing = "train_loss" in logs
        if closing:  # the Trainer's own figures leave out what was before a restart
            self.progress.take(self.state.global_step)
            mean = self.progress.logged_loss / max(self.state.global_step, 1)
            logs = {"train_runtime": round(self.clock.seconds, 3), "train_loss": mean}
        logs = {**logs, "seconds": round(self.clock.seconds, 3)}
        super().log(logs, *rest)
        if self.is_world_process_zero() and not closing:
            log.info("step %d/%d  %s", self.state.global_step, self.state.max_steps, _short(logs))

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self.state.global_step}: try a lower trainer.learning_rate, "
                "trainer.max_grad_norm=1, or trainer.precision=float32"
            )

    def _warn_of_collapse(self, logs: dict[str, float]) -> None:
        """Once: warmups are drawn with next to no choice, or are one and the same string (docs/method.md)."""
        entropy = logs.get("warmup/token_entropy")
        if entropy is None or self.progress.warned or not self.is_world_process_zero():
            return
        one_string = logs["warmup/distinct"] == 1 and logs["warmup/distinct_inputs"] == 0
        if entropy < COLLAPSED or (one_string and self.args.per_device_train_batch_size > 1):
            self.progress.warned = True
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

    def _save_rng_state(self, output_dir: str) -> None:
        """All that goes into a checkpoint before the state that says it is whole, from all processes."""
        super()._save_rng_state(output_dir)
        self._check_loss(self.progress.loss)
        self.progress.seconds = self.clock.seconds
        self.progress.write(Path(output_dir), self.is_world_process_zero())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        state = read_state(checkpoint)
        assert state is not None
        self._restore(checkpoint, state)
        self._load_weights(checkpoint)

    def _restore(self, checkpoint: Path, state: TrainerState) -> None:
        best = checkpoint_at(checkpoint.parent, state.best_global_step or state.global_step)
        if not read_state(best):
            raise UserError(f"{best}, the best checkpoint so far, is gone or not whole: choose another folder")
        for averaged in self._to_be_averaged(state):
            if not read_state(averaged):
                raise UserError(f"{averaged}, which is to be averaged, is gone or not whole: choose another folder")
        self.progress.read(checkpoint, self.args.world_size, self.args.process_index)
        self.clock.restart(self.progress.seconds)

    def _to_be_averaged(self, state: TrainerState) -> list[Path]:
        """The last checkpoints at `state`, as many as the model is made of; none where it is the best one."""
        count = self.config.average_checkpoints
        folder = Path(str(self.args.output_dir))
        return [checkpoint_at(folder, step) for step in evaluated_steps(state)[-count:]] if count > 1 else []

    def _load_average(self, folders: list[Path]) -> None:
        """The mean of the weights in `folders`, with its dev scores (Vaswani et al. 2017, section 6.1)."""
        trained = self.clock.seconds
        log.info("averaging the checkpoints of steps %s", ", ".join(str(path).rpartition("-")[2] for path in folders))
        self.method_model.model.load_state_dict(mean_weights(folders))
        scores = self.score()
        self.clock.restart(trained)
        self.log({f"average/{name}": value for name, value in scores.items()})

    def _load_best_model(self) -> None:
        if folders := self._to_be_averaged(self.state):
            self._load_average(folders)
            return
        if not self.state.best_global_step:
            return
        best = checkpoint_at(Path(str(self.args.output_dir)), self.state.best_global_step)
        log.info("best checkpoint: %s (%s = %.4g)", best, self.args.metric_for_best_model, self.state.best_metric)
        trained = self.clock.seconds
        self._load_weights(best)
        self.clock.restart(trained)

    def _load_weights(self, checkpoint: Path) -> None:
        load_weights(self.method_model.backbone, checkpoint)


def _short(logs: dict[str, float]) -> str:
    """`loss 2.31  target_nll 2.30 ...`, without what is the same in every line."""
    hidden = {"epoch", "grad_norm", "seconds"}
    return "  ".join(
        f"{name.removeprefix('warmup/')} {value:.4g}" for name, value in logs.items() if name not in hidden
    )


def _unwrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(STATE_PREFIX): value for name, value in state.items()}
