"""A few steps of training a tiny model, for tests that vary one thing about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, set_seed

from tests.saved_model import SETTINGS
from warmup.config.schema import MethodConfig, SftMethod, TrainerConfig, WarmupMethod
from warmup.models.backbone import Backbone
from warmup.training.batches import EncodedExamples
from warmup.training.fit import TrainingJob, fit, save_trained
from warmup.training.results import TrainingHistory

SFT, WARMUP = SftMethod(), WarmupMethod(num_samples=2, max_warmup_tokens=2)


@dataclass(frozen=True)
class Trained:
    """How long a training was, and what it logged, by its folder."""

    seconds: float
    steps: int
    history: Sequence[dict[str, Any]]


def copy_task(backbone: Backbone, count: int = 24) -> EncodedExamples:
    """Answer with the first token of the source."""
    generator = torch.Generator().manual_seed(0)
    ending = backbone.separator_id if backbone.tokenizer.bos_token else backbone.tokenizer.eos_token_id
    rows = [torch.randint(20, 40, (3 + index % 4,), generator=generator).tolist() for index in range(count)]
    return EncodedExamples(
        [[*row, ending] for row in rows], [[row[0], backbone.tokenizer.eos_token_id] for row in rows]
    )


def train(
    make_backbone: Callable[..., Backbone],
    folder: Path,
    method: MethodConfig,
    architecture: str = "t5",
    fresh: bool = False,
    *,
    count: int = 24,
    seed: int = 1,
    dropout: float = 0.0,
    score: Callable[[], float] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    save: bool = False,
    **settings: Any,
) -> tuple[Backbone, Trained]:
    """`fit` with `settings` of the trainer; `score` is the dev accuracy, by default a number made of the weights."""
    set_seed(1)
    backbone = make_backbone(architecture, dropout)
    values = {
        "max_steps": 8,
        "batch_size": 4,
        "evaluate_by": "steps",
        "evaluate_every": 4,
        "logging_steps": 1,
        "precision": "float32",
        **settings,
    }

    def of_weights() -> float:
        return backbone.model.get_input_embeddings().weight.detach().sum().item()

    job = job_of(backbone, folder, method, TrainerConfig(**values), count=count, seed=seed, fresh=fresh)
    result = fit(job, lambda: {"accuracy": (score or of_weights)()}, callbacks)
    if save:
        save_trained(job, result)
    return backbone, Trained(result.seconds, result.steps, TrainingHistory.read(folder).entries)


def job_of(
    backbone: Backbone,
    folder: Path,
    method: MethodConfig,
    config: TrainerConfig,
    *,
    count: int = 24,
    seed: int = 1,
    fresh: bool = False,
) -> TrainingJob:
    """The copy task on the CPU, selected by accuracy."""
    data = copy_task(backbone, count)
    return TrainingJob(backbone, method, config, data, folder, "cpu", "accuracy", SETTINGS, seed, fresh)
