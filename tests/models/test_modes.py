"""Blocks that drop out by themselves, as BART's do, are quiet while an input's warmups are compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from warmup.methods.scoring import shared_dropout
from warmup.models.model_types import FAMILIES
from warmup.models.modes import dropout_off

LABELS = torch.tensor([[7, 8, 1]])


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"activation_dropout": 0.5}, {"layerdrop": 0.5}], ids=str)
def test_equal_warmups_get_equal_weights_in_a_bart_with_dropout(make_backbone: Any, rates: dict[str, float]) -> None:
    backbone = make_backbone("bart", dropout=0.0)
    decoder = backbone.model.get_decoder()
    (name, rate), *_ = rates.items()
    owners = [part for part in decoder.modules() if isinstance(getattr(part, name, None), float)]
    for part in owners:
        setattr(part, name, rate)
    backbone.model.train()
    ids = torch.tensor([[265, 270, 268, 1]])
    encoded = backbone.family.encode(backbone.model, ids, torch.ones_like(ids))
    rows = torch.tensor([[[20, 21, backbone.separator_id, 7, 1]] * 4])

    def hidden() -> torch.Tensor:
        return backbone.family.hidden(backbone.model, encoded, rows, torch.ones_like(rows))

    once, twice = hidden(), hidden()
    while name == "layerdrop" and torch.equal(once, twice):  # whole layers are left out, or not
        twice = hidden()
    assert not torch.equal(once, twice)
    masked = shared_dropout(backbone, 3, LABELS)
    with masked.rows(5, torch.arange(1)):
        states = hidden()
    torch.testing.assert_close(states, states[:, :1].expand_as(states))
    with dropout_off(decoder):
        torch.testing.assert_close(hidden(), states)
    assert owners and all(getattr(part, name) == rate and part.training for part in owners)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_tells_whether_a_fresh_model_drops_out(make_backbone: Any, architecture: str) -> None:
    backbone = make_backbone(architecture, dropout=0.5)
    backbone.model.train()
    ids = torch.tensor([[265, 270, 268, 1]])
    rows = torch.tensor([[20, 21, 7, 1]])
    pair = [backbone.family.plain_logits(backbone.model, ids, ids > 0, rows, rows > 0) for _ in range(2)]
    assert backbone.family.has_dropout != torch.equal(*pair)
