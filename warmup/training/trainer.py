"""The Hugging Face Trainer, changed where the method needs it: dev score by decoding, gauges, plain checkpoints."""

from __future__ import annotations

import gc
import logging
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.config.schema import TrainerConfig
from warmup.errors import UserError
from warmup.manifest import damage, put_in_place
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.loading import load_weights, save
from warmup.training.batches import READ, EncodedExamples, EpochLoader, SharedBatches, WithIndices, cut
from warmup.training.checkpoints import STATE_FILE, aside, checkpoint_at, evaluated_steps, mean_weights, read_state
from warmup.training.guard import StepGuard
from warmup.training.interruption import INTERRUPTION, Interrupted
from warmup.training.method_model import MethodModel
from warmup.training.processes import true_anywhere
from warmup.training.progress import Stopwatch
from warmup.training.sharded import PlainModel

log = logging.getLogger(__name__)
OUT_OF_MEMORY = "out of memory: what helps is a smaller trainer.batch_size, with more gradient_accumulation_steps"


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
        if true_anywhere(INTERRUPTION.asked is not None, args.device) and not evaluates_later:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if true_anywhere(INTERRUPTION.asked is not None, args.device):
            INTERRUPTION.saved = state.global_step
            raise Interrupted(INTERRUPTION.asked or signal.SIGTERM)


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
        self.plain = PlainModel(model.backbone, getattr(self.accelerator.state, "fsdp_plugin", None))
        self.clock = Stopwatch()
        self.progress = model.progress
        self.guard = StepGuard(self.progress, Path(str(args.output_dir)).parent)
        clip = self.accelerator.clip_grad_norm_

        def clip_and_keep(*arguments: Any, **keywords: Any) -> Any:
            norm = clip(*arguments, **keywords)
            self.guard.norm = norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            return norm

        self.accelerator.clip_grad_norm_ = clip_and_keep  # a callback is not told the norm
        self.add_callback(self.guard)
        self.add_callback(StepCounter(model, config))
        self.add_callback(StopWhenAsked())

    @property
    def wrapped(self) -> nn.Module:
        """The model as the processes share it: with FSDP a part of each weight."""
        assert isinstance(self.model, nn.Module)
        return self.model

    def get_train_dataloader(self) -> EpochLoader:
        """This process's share of each global batch."""
        data = self.train_dataset
        assert isinstance(data, EncodedExamples)
        together = self.args.train_batch_size * self.args.world_size
        step = together * self.args.gradient_accumulation_steps
        order = data.order(step, self.config.group_by_length, self.args.seed)
        return EpochLoader(
            data,
            batch_sampler=SharedBatches(order, together, self.args.world_size, self.args.process_index),
            collate_fn=WithIndices(self.data_collator),
            pin_memory=self.args.dataloader_pin_memory,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
        )

    def get_batch_samples(self, *arguments: Any, **keywords: Any) -> Any:
        """The batches of the next optimiser step, which begins here."""
        found = super().get_batch_samples(*arguments, **keywords)
        self.guard.examples = [index for batch in found[0] for index in batch.pop(READ)]
        self.guard.loss = 0.0
        self.progress.begin_step()
        self.step_batches: list[dict[str, Any]] = []
        return found

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any, **keywords: Any) -> Tensor:
        """One batch; its loss is summed up here too, since the Trainer's sum does not outlive the process.

        Where memory runs out, each batch is cut in halves from then on. The step begins anew, since a backward pass may
        have added half of its gradients.

        Raises:
            UserError: a batch is one example already, or other processes wait for this one.
        """
        if not self.step_batches:  # not before: a restart sets the noise of its first step late
            self.step_noise = _random_states()
        self.step_batches.append(inputs)
        found = self._tried(model, [inputs], *rest, **keywords)
        while found is None:
            self._halve_batches(model)
            found = self._tried(model, self.step_batches, *rest, **keywords)
        self.progress.loss += found.item()
        self.guard.loss += found.item()
        return found

    def _tried(self, model: nn.Module, batches: list[dict[str, Any]], *rest: Any, **keywords: Any) -> Tensor | None:
        """The loss of `batches`, whose gradients are added up; None where memory ran out."""
        losses = []
        try:
            for batch in batches:
                for part in cut(batch, self.progress.parts):
                    losses.append(super().training_step(model, part, *rest, **keywords))
        except torch.OutOfMemoryError:
            return None
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _halve_batches(self, model: nn.Module) -> None:
        size = math.ceil(max(len(batch["labels"]) for batch in self.step_batches) / self.progress.parts)
        if self.args.world_size > 1:
            raise UserError(f"{OUT_OF_MEMORY}; several processes cannot halve their batches on the way")
        if size == 1:
            raise UserError(f"{OUT_OF_MEMORY}: one example at a time does not fit")
        self.progress.parts *= 2
        log.warning(
            "out of memory: from here on %d examples are computed at a time, and gradients added up over %d times as "
            "many parts; the numbers are the same up to rounding, and trainer.batch_size=%d would spare this",
            math.ceil(size / 2),
            self.progress.parts,
            math.ceil(size / 2),
        )
        self.progress.undo_step()
        self.guard.loss = 0.0
        model.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
        torch.set_rng_state(self.step_noise[0])
        torch.cuda.set_rng_state_all(self.step_noise[1])

    def end_from(self, checkpoint: Path, state: TrainerState) -> None:
        """What `train` does after the last step, for a training that had come so far: no further step is taken."""
        self._restore(checkpoint, state)
        self.take_over(state, checkpoint)
        self._load_best_model()
        self.log({"train_loss": 0.0})

    def take_over(self, state: TrainerState, model: Path) -> None:
        """Be where another training ended, with the weights that are saved in `model`."""
        self.state = state
        self.plain.stay()
        load_weights(self.method_model.backbone, model)
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Decode the dev set; called by the Trainer at every evaluation."""
        trained = self.clock.seconds
        with self.plain.in_use(self.wrapped):
            metrics = {f"eval_{name}": value for name, value in self.score().items()}
        self.clock.restart(trained)  # decoding the dev set is no training time
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        """Add the method's gauges and the training time to each entry, and show it as one short line."""
        if "loss" in logs:
            loss, gauges = self.progress.take(self.state.global_step)
            logs = {**logs, **gauges}
            del logs["loss"]
            if loss is not None:
                self.guard.warn_of_a_jump(loss, self.state.global_step)
                logs = {"loss": round(loss, 4), **logs}
            if not math.isfinite(logs.get("grad_norm", 0.0)):
                del logs["grad_norm"]
            if self.progress.skipped:
                logs["skipped_steps"] = self.progress.skipped
            self.guard.warn_of_a_collapse(logs, self.state.global_step, self.args.per_device_train_batch_size)
        closing = "train_loss" in logs
        if closing:  # the Trainer's own figures leave out what was before a restart
            self.progress.take(self.state.global_step)
            mean = self.progress.logged_loss / max(self.state.global_step - self.progress.skipped, 1)
            logs = {"train_runtime": round(self.clock.seconds, 3), "train_loss": mean}
        logs = {**logs, "seconds": round(self.clock.seconds, 3)}
        super().log(logs, *rest)
        if self.is_world_process_zero() and not closing:
            log.info("step %d/%d  %s", self.state.global_step, self.state.max_steps, _short(logs))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A checkpoint's weights are the plain model, loadable on its own."""
        with self.plain.in_use(self.wrapped):
            if self.args.should_save:
                save(self.method_model.backbone, Path(output_dir or str(self.args.output_dir)), self.settings)

    def _get_output_dir(self, trial: Any) -> str:
        """Where the Trainer writes a checkpoint: aside."""
        return str(aside(Path(str(self.args.output_dir))))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint appears whole, when all processes have written their part of it.

        Raises:
            UserError: the run's folder is gone.
        """
        folder, step = Path(str(self.args.output_dir)), self.state.global_step
        if not folder.is_dir():
            raise UserError(f"cannot write to {folder}: it was removed or renamed while this run was training")
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(checkpoint_at(folder, self.state.best_global_step))
        if self.args.should_save:
            unfinished = checkpoint_at(aside(folder), step)
            self.state.save_to_json(str(unfinished / STATE_FILE))
            put_in_place(unfinished, checkpoint_at(folder, step))
            aside(folder).rmdir()
        self.accelerator.wait_for_everyone()

    def _save_rng_state(self, output_dir: str) -> None:
        """All that goes into a checkpoint before the state that says it is whole, from all processes."""
        super()._save_rng_state(output_dir)
        self.progress.seconds = self.clock.seconds
        self.progress.write(Path(output_dir), self.is_world_process_zero())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        self._restore(checkpoint, read_state(checkpoint))
        self.plain.load(checkpoint, self.wrapped)

    def _restore(self, checkpoint: Path, state: TrainerState) -> None:
        best = checkpoint_at(checkpoint.parent, state.best_global_step or state.global_step)
        if fault := damage(best):
            raise UserError(f"{best}, the best checkpoint so far, is damaged ({fault}): choose another folder")
        for averaged in self._to_be_averaged(state):
            if fault := damage(averaged):
                raise UserError(f"{averaged}, which is to be averaged, is damaged ({fault}): choose another folder")
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
        self.method_model.backbone.model.load_state_dict(mean_weights(folders))
        scores = self.score()
        self.clock.restart(trained)
        self.log({f"average/{name}": value for name, value in scores.items()})

    def _load_best_model(self) -> None:
        self.plain.stay()
        if folders := self._to_be_averaged(self.state):
            self._load_average(folders)
            return
        if not self.state.best_global_step:
            return
        best = checkpoint_at(Path(str(self.args.output_dir)), self.state.best_global_step)
        log.info("best checkpoint: %s (%s = %.4g)", best, self.args.metric_for_best_model, self.state.best_metric)
        trained = self.clock.seconds
        load_weights(self.method_model.backbone, best)
        self.clock.restart(trained)


def _random_states() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _short(logs: dict[str, float]) -> str:
    """`loss 2.31  target_nll 2.30 ...`, without what is the same in every line."""
    hidden = {"epoch", "grad_norm", "seconds"}
    return "  ".join(
        f"{name.removeprefix('warmup/')} {value:.4g}" for name, value in logs.items() if name not in hidden
    )
