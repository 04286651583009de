"""A model that reads and writes token ids alone, as studies need it that have no texts."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from warmup.models.backbone import Backbone
from warmup.models.families import Family, Model

PAD_ID, END_ID, SEPARATOR_ID = 0, 1, 2


def bare_backbone(model: Model, family: Family, never_in_warmup: Tensor) -> Backbone:
    """`model` with the three special tokens above in place of a tokenizer.

    Args:
        model: whose configuration has these ids already.
        family: the model's.
        never_in_warmup: [V] true for each token that no warmup may hold.
    """
    tokenizer = SimpleNamespace(pad_token_id=PAD_ID, eos_token_id=END_ID)
    backbone = Backbone(model, tokenizer, family, SEPARATOR_ID)  # type: ignore[arg-type]
    backbone.__dict__["never_in_warmup"] = never_in_warmup  # a cached property that would ask the tokenizer
    return backbone
