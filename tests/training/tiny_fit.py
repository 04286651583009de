"""A few steps of training a tiny model, for tests that vary one thing about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, set_seed

from tests.saved_model import SETTINGS
from warmup.config.schema import MethodConfig, SftMethod, TrainerConfig, WarmupMethod
from warmup.models.loading import Backbone
from warmup.training.batches import EncodedExamples
from warmup.training.fit import Training, fit, save_trained

SFT, WARMUP = SftMethod(), WarmupMethod(num_samples=2, max_warmup_tokens=2)


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
) -> tuple[Backbone, Training]:
    """`fit` with `settings` of the trainer; `score` is the dev accuracy, by default a number made of the weights."""
    set_seed(1)
    backbone = make_backbone(architecture, dropout)
    values = {
        "max_steps": 8,
        "batch_size": 4,
        "evaluate_by": "steps",
        "evaluate_every": 4,
        "logging_steps": 1,
        **settings,
    }

    def of_weights() -> float:
        return backbone.model.get_input_embeddings().weight.detach().sum().item()

    result = fit(
        backbone,
        method,
        TrainerConfig(**values),
        copy_task(backbone, count),
        folder,
        seed,
        "cpu",
        "accuracy",
        SETTINGS,
        lambda: {"accuracy": (score or of_weights)()},
        callbacks,
        fresh,
    )
    if save:
        save_trained(backbone, SETTINGS, result, folder)
    return backbone, result
