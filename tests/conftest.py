"""Tiny models that every test may share: built in memory, seeded, in float64 where mathematics is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from warmup.config.schema import ModelConfig
from warmup.models.backbone import Backbone
from warmup.models.loading import build_fresh
from warmup.models.t5 import ATTENTION, small_scale

ARCHITECTURES = ["t5", "mt5", "llama"]
WITH_BART = [*ARCHITECTURES, "bart"]  # where absolute positions make a difference; test_parity.py has every type
TEXTS = ["the quick brown fox jumps over the lazy dog", "a small red ball rolls down the hill", "we like to read books"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_left_in_the_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Scores, tests and large data are kept by content; commands that tests start inherit the folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        yield


@torch.no_grad()
def _enlarge(model: torch.nn.Module, factor: float, head: float) -> None:
    """A fresh T5 finds all tokens about as likely; in these tests warmups shall differ."""
    for name, weight in model.named_parameters():
        if name.split(".")[-2] not in ATTENTION:
            weight.mul_(factor * (head if "lm_head" in name else 1))


def tiny_backbone(architecture: str, dropout: float = 0.0, width: int = 32) -> Backbone:
    """The same one at every call; float32 and in evaluation mode."""
    torch.manual_seed(0)
    config = ModelConfig(
        name="tiny", architecture=architecture, vocabulary_size=300, layers=2, heads=2, dropout=dropout
    )
    config.width, config.feed_forward = width, width * 3 // 2
    backbone = build_fresh(config, TEXTS, 64)
    if architecture in ("t5", "mt5"):
        _enlarge(backbone.model, 1 / small_scale(config.width), 0.25 if architecture == "t5" else 1)
    if architecture == "bart":
        with torch.no_grad():
            for weight in backbone.model.parameters():
                weight.mul_(10 if weight.dim() > 1 else 1)
    backbone.model.eval()
    return backbone


@pytest.fixture
def make_backbone() -> Callable[..., Backbone]:
    """Build a tiny backbone: `make_backbone("t5", dropout=0.1)`."""
    return tiny_backbone
