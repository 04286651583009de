"""From a configuration to a trained model: arguments, resume, early stopping, history."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, TrainerState, TrainingArguments

from warmup.config.schema import MethodConfig, TrainerConfig
from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.models.encoding import Collator
from warmup.models.loading import Backbone, save
from warmup.models.modes import checkpoint_contexts
from warmup.training.batches import EncodedExamples
from warmup.training.checkpoints import KeepCheckpoints, has_ended, last_checkpoint, read_state
from warmup.training.method_model import MethodModel
from warmup.training.trainer import WarmupTrainer

log = logging.getLogger(__name__)
MODEL, RECORD, HISTORY = "model", "training.json", "history.json"  # what a training leaves in its folder
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor"}


@dataclass(frozen=True)
class Training:
    """What a finished training leaves beside the model."""

    seconds: float  # of optimisation, dev evaluations not counted, resumed parts added up
    steps: int
    best_score: float | None
    history: list[dict[str, Any]]


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
    backbone: Backbone,
    method: MethodConfig,
    config: TrainerConfig,
    train: EncodedExamples,
    folder: Path,
    seed: int,
    device: str,
    selection_metric: str,
    settings: dict[str, Any],
    score: Callable[[], dict[str, float]],
    callbacks: Sequence[TrainerCallback],
    fresh: bool = False,
    larger_is_better: bool = True,
) -> Training:
    """Train in place; `folder/checkpoints` holds what a killed run resumes from, `folder/history.json` the curves.

    A training that has ended stays as it is: where `folder/model` is, or the last checkpoint is that of the end, the
    weights are loaded and no step is taken.

    Raises:
        UserError: a loss that is not a number, a folder that cannot be written, or checkpoints of another number of
            processes.
    """
    checkpoints = folder / "checkpoints"
    arguments = training_arguments(config, checkpoints, seed, device, selection_metric, larger_is_better)
    if config.gradient_checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts})
    backbone.model.to(device)
    stopping = [EarlyStoppingCallback(config.early_stopping_patience)] if config.early_stopping_patience else []
    trainer = WarmupTrainer(
        MethodModel(backbone, method, fresh, seed),
        arguments,
        train,
        config.group_by_length,
        settings,
        score,
        data_collator=Collator(backbone),
        callbacks=[*stopping, KeepCheckpoints(config.keep_checkpoints), *callbacks],
    )
    trainer.remove_callback(ProgressCallback)
    if (folder / MODEL).is_dir():
        seconds = _take_over_finished(trainer, folder)
    else:
        _train(trainer, checkpoints)
        seconds = trainer.clock.seconds
        if trainer.is_world_process_zero():
            # sorted, as a checkpoint has them: a resumed run's file is no other
            write_json(folder / HISTORY, [dict(sorted(entry.items())) for entry in trainer.state.log_history])
    history = trainer.state.log_history
    best = max if larger_is_better else min
    scores = [entry[name] for entry in history if (name := f"eval_{selection_metric}") in entry]
    return Training(seconds, trainer.state.global_step, best(scores, default=None), history)


def save_trained(backbone: Backbone, settings: dict[str, Any], training: Training, folder: Path) -> None:
    """Write `training.json`, then `model/`, whole or not at all: where it is, the training is finished."""
    if (folder / MODEL).is_dir():
        return
    write_json(folder / RECORD, {"seconds": training.seconds, "steps": training.steps})
    unfinished = folder / f".{MODEL}"
    shutil.rmtree(unfinished, ignore_errors=True)
    save(backbone, unfinished, settings)
    os.replace(unfinished, folder / MODEL)


def _take_over_finished(trainer: WarmupTrainer, folder: Path) -> float:
    """Load what an earlier call left in `folder`; returns its seconds."""
    record, history = read_json(folder / RECORD), read_json(folder / HISTORY)
    log.info("training was finished before; the model is read from %s", folder / MODEL)
    steps = record["steps"]
    trainer.take_over(TrainerState(global_step=steps, max_steps=steps, log_history=history), folder / MODEL)
    return float(record["seconds"])


def _train(trainer: WarmupTrainer, checkpoints: Path) -> None:
    """From the last checkpoint, if there is one, to the end."""
    resume = last_checkpoint(checkpoints)
    state = resume and read_state(resume)
    if resume and state and has_ended(state):
        log.info("training had ended at %s", resume)
        trainer.end_from(resume, state)
        return
    if resume:
        log.info("resuming from %s", resume)
    bar = BarWithoutDictionaries()
    if trainer.is_world_process_zero():
        trainer.add_callback(bar)
    try:
        with logging_redirect_tqdm():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except OSError as error:
        raise UserError(f"cannot write to {checkpoints}: {error.strerror or error}") from error
    except RuntimeError as error:
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise  # these two are how torch.save says that a write failed
        raise UserError(f"cannot write to {checkpoints}: no space left, or the folder is gone") from error
    finally:
        if bar.training_bar is not None:
            bar.training_bar.close()  # or the line of an error stands behind the bar


def training_arguments(
    config: TrainerConfig, folder: Path, seed: int, device: str, selection_metric: str, larger_is_better: bool = True
) -> TrainingArguments:
    """The Hugging Face arguments for `config`; evaluation and checkpoints happen together."""
    every: dict[str, Any] = {"eval_steps": config.evaluate_every, "save_steps": config.evaluate_every}
    return Arguments(
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
        max_grad_norm=config.max_grad_norm,
        bf16=use_bfloat16(config.precision, device),
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
        dataloader_pin_memory=device == "cuda",
        seed=seed,
        report_to="none",  # the Trainer's own loggers obey environment variables
        **(every if config.evaluate_by == "steps" else {}),
    )


def use_bfloat16(precision: str, device: str) -> bool:
    """Whether to compute in bfloat16: `auto` means on a CUDA device that has it."""
    if precision == "auto":
        return device == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
