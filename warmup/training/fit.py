"""From a configuration to a trained model: arguments, resume, early stopping, history."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, TrainerState, TrainingArguments

from warmup.config.further_arguments import KEY
from warmup.config.schema import MethodConfig, TrainerConfig
from warmup.errors import UserError, first_line
from warmup.manifest import have_on_the_disk
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.encoding import Collator
from warmup.models.liger import use_liger_kernels
from warmup.models.loading import save
from warmup.models.modes import checkpoint_contexts
from warmup.models.size import count_weights
from warmup.training.batches import EncodedExamples
from warmup.training.checkpoints import KeepCheckpoints, aside, has_ended, last_checkpoint, read_state
from warmup.training.duration import SayDuration
from warmup.training.interruption import INTERRUPTION
from warmup.training.method_model import MethodModel
from warmup.training.precision import precision_on
from warmup.training.processes import is_main_process
from warmup.training.profiling import ProfileSteps
from warmup.training.progress import ShowProgress
from warmup.training.results import CHECKPOINTS_FOLDER, MODEL_FOLDER, Training, TrainingHistory
from warmup.training.trainer import OUT_OF_MEMORY, WarmupTrainer

log = logging.getLogger(__name__)
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor"}


@dataclass(frozen=True)
class TrainingJob:
    """What is trained, on what, how, and where.

    Attributes:
        folder: the run's; `checkpoints` in it holds what a killed run resumes from.
        device: "cpu" or "cuda".
        selection_metric: the dev score that picks the best checkpoint.
        settings: what warmup_config.json says, written beside every saved model.
        seed: of the order of examples and of sampled warmups.
        fresh: whether the model was built from a configuration, not pretrained.
    """

    backbone: Backbone
    method: MethodConfig
    trainer: TrainerConfig
    examples: EncodedExamples
    folder: Path
    device: str
    selection_metric: str
    settings: CheckpointSettings
    seed: int
    fresh: bool = False
    larger_is_better: bool = True  # of the selection metric


class Arguments(TrainingArguments):
    """The Trainer's, but that a CPU is one device: torch.load does not know `cpu:0`, as gloo's processes call it."""

    @property
    def device(self) -> torch.device:
        """The device that this process computes on."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


class BarWithoutDictionaries(ProgressCallback):
    """The Trainer's progress bar; `WarmupTrainer.log` writes the numbers, in one short line."""

    def on_log(self, *_: Any, **__: Any) -> None:
        return


def fit(
    job: TrainingJob, dev_scores: Callable[[], dict[str, float]], callbacks: Sequence[TrainerCallback] = ()
) -> Training:
    """Train in place; `history.json` in the job's folder has the curves.

    A training that has ended stays as it is: where `model` is, or the last checkpoint is that of the end, the
    weights are loaded and no step is taken.

    Args:
        dev_scores: decodes the dev set with the model as it is and returns its scores.

    Raises:
        UserError: losses that are not finite, too little memory, a folder that cannot be written, checkpoints that are
            all damaged, or that are of another number of processes.
    """
    trainer = _trainer_of(job, dev_scores, callbacks)
    unfinished = aside(job.folder / CHECKPOINTS_FOLDER)
    if trainer.is_world_process_zero():
        shutil.rmtree(unfinished, ignore_errors=True)
    if (job.folder / MODEL_FOLDER).is_dir():
        return _take_over_finished(trainer, job.folder)
    _train(trainer, job.folder / CHECKPOINTS_FOLDER)
    if trainer.is_world_process_zero():
        TrainingHistory(trainer.state.log_history).write(job.folder)
    return Training(trainer.clock.seconds, trainer.state.global_step, trainer.progress.skipped)


def say_what_is_trained(job: TrainingJob) -> None:
    """How much is learnt from, what learns, and where: before the first bar."""
    count, trained = count_weights(job.backbone.model)
    log.info(
        "%s; %s parameters%s; %s, %s",
        job.examples,
        f"{count:,}",
        "" if trained == count else f", {trained:,} of them trained",
        job.device,
        precision_on(job.device, job.trainer.precision),
    )


def save_trained(job: TrainingJob, training: Training) -> None:
    """Write `training.json`, then `model/`, whole or not at all: where it is, the training is finished."""
    if (job.folder / MODEL_FOLDER).is_dir():
        return
    training.write(job.folder)
    unfinished = job.folder / f".{MODEL_FOLDER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    save(job.backbone, unfinished, job.settings)
    have_on_the_disk(unfinished)
    os.replace(unfinished, job.folder / MODEL_FOLDER)


def _trainer_of(
    job: TrainingJob, dev_scores: Callable[[], dict[str, float]], callbacks: Sequence[TrainerCallback]
) -> WarmupTrainer:
    config, model = job.trainer, job.backbone.model
    arguments = training_arguments(
        config, job.folder / CHECKPOINTS_FOLDER, job.seed, job.device, job.selection_metric, job.larger_is_better
    )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts})
    model.to(job.device)
    if config.arguments.use_liger_kernel:
        use_liger_kernels(model)
    stopping = [EarlyStoppingCallback(config.early_stopping_patience)] if config.early_stopping_patience else []
    keeping = KeepCheckpoints(config.keep_checkpoints, config.average_checkpoints)
    if config.profile_steps and is_main_process():
        callbacks = [*callbacks, ProfileSteps(job.folder, config.profile_steps)]
    trainer = WarmupTrainer(
        MethodModel(job.backbone, job.method, job.fresh, job.seed),
        arguments,
        job.examples,
        config,
        job.settings,
        dev_scores,
        data_collator=Collator(job.backbone),
        callbacks=[*stopping, keeping, SayDuration(), ShowProgress(job.folder), *callbacks],
    )
    if trainer.is_fsdp_enabled and job.backbone.adapters is not None:
        raise UserError("model.lora.rank is set, and FSDP shards the model: adapters need it whole (DDP has it so)")
    trainer.remove_callback(ProgressCallback)
    return trainer


def _take_over_finished(trainer: WarmupTrainer, folder: Path) -> Training:
    """Load what an earlier call left in `folder`."""
    training, history = Training.read(folder), TrainingHistory.read(folder)
    log.info("training was finished before; the model is read from %s", folder / MODEL_FOLDER)
    steps = training.steps
    state = TrainerState(global_step=steps, max_steps=steps, log_history=list(history.entries))
    trainer.take_over(state, folder / MODEL_FOLDER)
    return training


def _train(trainer: WarmupTrainer, checkpoints: Path) -> None:
    """From the last checkpoint, if there is one, to the end."""
    (resume,) = broadcast_object_list([last_checkpoint(checkpoints) if trainer.is_world_process_zero() else None])
    if resume and has_ended(state := read_state(resume)):
        log.info("training had ended at %s", resume)
        trainer.end_from(resume, state)
        return
    if resume:
        log.info("resuming from %s", resume)
    bar = BarWithoutDictionaries()
    if trainer.is_world_process_zero():
        trainer.add_callback(bar)
    try:
        with logging_redirect_tqdm(), INTERRUPTION.saving():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except OSError as error:
        raise UserError(f"cannot write to {checkpoints}: {error.strerror or error}") from error
    except torch.OutOfMemoryError as error:
        raise UserError(f"{OUT_OF_MEMORY}, a smaller evaluation.batch_size, or a smaller model ({error})") from error
    except RuntimeError as error:
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise  # these two are how torch.save says that a write failed
        raise UserError(f"cannot write to {checkpoints}: no space left, or the folder is gone") from error
    finally:
        if bar.training_bar is not None:
            bar.training_bar.close()  # or the line of an error stands after the bar


def training_arguments(
    config: TrainerConfig, folder: Path, seed: int, device: str, selection_metric: str, larger_is_better: bool = True
) -> TrainingArguments:
    """The Hugging Face arguments for `config`; evaluation and checkpoints happen together."""
    every: dict[str, Any] = {"eval_steps": config.evaluate_every, "save_steps": config.evaluate_every}
    narrow = precision_on(device, config.precision) == "bfloat16"
    # transformers reads this where it is not told otherwise, and leaves it behind for the next job of the process
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if narrow else "no"
    for name in [name for name in os.environ if name.startswith("ACCELERATE_DYNAMO_")]:
        del os.environ[name]  # likewise, of torch_compile
    further = {"dataloader_pin_memory": device == "cuda", **config.arguments.given}
    further.pop("use_liger_kernel", None)  # the Trainer looks for the model that is in ours
    values = dict(
        output_dir=str(folder),
        max_steps=config.max_steps,
        num_train_epochs=config.epochs or 1.0,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        optim=OPTIMIZERS[config.optimizer],
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.lr_warmup_steps,
        max_grad_norm=config.max_grad_norm or math.inf,  # it then changes no gradient, and their norm is known
        bf16=narrow,
        use_cpu=device == "cpu",
        eval_strategy=config.evaluate_by,
        save_strategy=config.evaluate_by,
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{selection_metric}",
        greater_is_better=larger_is_better,
        logging_steps=config.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a NaN must be seen, not replaced by a mean
        disable_tqdm=False,  # or the Trainer, seeing transformers quiet, prints dictionaries instead of a bar
        remove_unused_columns=False,
        seed=seed,
        report_to="none",  # the Trainer's own loggers obey environment variables
        **(every if config.evaluate_by == "steps" else {}),
        **further,
    )
    try:
        return Arguments(**values)
    except (ValueError, ImportError) as error:  # what only this machine can tell, as that it has no TF32
        raise UserError(f"{KEY} is {config.arguments.given}: {first_line(error)}") from error
