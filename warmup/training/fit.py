"""From a configuration to a trained model: arguments, resume, early stopping, history."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, TrainingArguments

from warmup.config.schema import MethodConfig, TrainerConfig
from warmup.errors import UserError
from warmup.files import write_json
from warmup.models.encoding import Collator
from warmup.models.loading import Backbone
from warmup.models.modes import checkpoint_contexts
from warmup.training.method_model import MethodModel
from warmup.training.trainer import EncodedExamples, WarmupTrainer

log = logging.getLogger(__name__)
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor"}


@dataclass(frozen=True)
class Training:
    """What a finished training leaves beside the model."""

    seconds: float  # of optimisation, dev evaluations not counted, resumed parts added up
    steps: int
    best_score: float | None
    history: list[dict[str, Any]]


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
) -> Training:
    """Train in place; `folder/checkpoints` holds what a killed run resumes from, `folder/history.json` the curves.

    Raises:
        UserError: a loss that is not a number, or a folder that cannot be written.
    """
    checkpoints = folder / "checkpoints"
    arguments = training_arguments(config, checkpoints, seed, device, selection_metric)
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
        callbacks=[*stopping, *callbacks],
    )
    trainer.remove_callback(ProgressCallback)
    bar = BarWithoutDictionaries()
    if trainer.is_world_process_zero():
        trainer.add_callback(bar)
    resume = last_checkpoint(checkpoints)
    if resume:
        log.info("resuming from %s", resume)
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
    if trainer.is_world_process_zero():
        write_json(folder / "history.json", trainer.state.log_history)
    return Training(
        trainer.clock.seconds, trainer.state.global_step, trainer.state.best_metric, trainer.state.log_history
    )


def training_arguments(
    config: TrainerConfig, folder: Path, seed: int, device: str, selection_metric: str
) -> TrainingArguments:
    """The Hugging Face arguments for `config`; evaluation and checkpoints happen together."""
    every: dict[str, Any] = {"eval_steps": config.evaluate_every, "save_steps": config.evaluate_every}
    return TrainingArguments(
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
        save_total_limit=config.keep_checkpoints,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{selection_metric}",
        greater_is_better=True,
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


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole: its state file, which comes last, can be read."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            log.warning("%s was not written whole and is left out", checkpoint)
            continue
        return checkpoint
    return None
