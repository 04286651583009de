"""A model folder as a run leaves it, without the time that training takes."""

from __future__ import annotations

from pathlib import Path

import torch

from warmup.config.schema import ModelConfig
from warmup.data.examples import Wording
from warmup.models.checkpoint_settings import CheckpointSettings, Limits
from warmup.models.loading import build_fresh, save

SETTINGS = CheckpointSettings(
    Limits(source=64, warmup=8, target=64),
    Wording("translation", "translate {source_language} to {target_language}: {source}", "{target}", "de", "en"),
)


def save_model(folder: Path, texts: list[str]) -> None:
    """An untrained T5 whose answers differ, laid out as a run of translation_de_en leaves it."""
    torch.manual_seed(0)
    config = ModelConfig(name="tiny", vocabulary_size=300, width=32, layers=1, heads=2, feed_forward=32, dropout=0.0)
    backbone = build_fresh(config, texts, 64)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            weight.mul_(4.0 if weight.ndim == 2 else 1.0)
    save(backbone, folder, SETTINGS)
