"""Tiny models with LoRA adapters, as they are loaded; the tests of several rooms share them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tests.conftest import tiny_backbone
from tests.saved_model import SETTINGS
from warmup.config.schema import LoraConfig
from warmup.models.backbone import Backbone
from warmup.models.loading import load_pretrained, save
from warmup.models.lora import add_adapters

FOR_4_BITS = 128  # a width that bitsandbytes can round, in blocks of 64


def pretrained(folder: Path, architecture: str, width: int = 32) -> Path:
    """`folder`, with a tiny model in it as if it had been pretrained."""
    if not folder.exists():
        save(tiny_backbone(architecture, width=width), folder, SETTINGS)
    return folder


def adapted(folder: Path, architecture: str, config: LoraConfig | None = None) -> Backbone:
    """A tiny model with adapters that still change nothing; its base model is in `folder`."""
    pretrained(folder, architecture)
    torch.manual_seed(0)
    backbone = load_pretrained(str(folder))
    backbone.merge_adapters()
    config = config or LoraConfig(rank=3, alpha=5.0)
    backbone.adapters = add_adapters(backbone.model, config, backbone.new_rows, str(folder), None)
    return backbone


@torch.no_grad()
def changed(backbone: Backbone) -> Backbone:
    """The same with adapters and new rows that matter, as after training."""
    generator = torch.Generator().manual_seed(1)
    for part in backbone.model.parameters():
        if part.requires_grad:
            part.add_(torch.randn(part.shape, generator=generator, dtype=part.dtype) * 0.2)
    return backbone


def maker(folder: Path, config: LoraConfig | None = None) -> Callable[[str, float], Backbone]:
    """What makes backbones for `tests.training.tiny_fit.train`; the model's own dropout is 0."""
    return lambda architecture, dropout: adapted(folder, architecture, config)
