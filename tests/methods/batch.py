"""The batch that the tests of a step share, and how its gradients are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.methods.oracle import Scores, score, sources_of
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.sampling import Warmups
from warmup.models.backbone import Backbone
from warmup.models.encoding import source_batch

SOURCES = [[265, 270, 268, 271], [266, 280], [267, 281, 290, 291, 292]]
LABELS = torch.tensor([[7, 8, 9, 1], [11, 1, -100, -100], [12, 13, 1, -100]])
LIMIT = 3


def batch_of(backbone: Backbone) -> tuple[Tensor, Tensor]:
    ending = backbone.tokenizer.eos_token_id if backbone.model.config.is_encoder_decoder else backbone.separator_id
    batch = source_batch(backbone, [[*row, ending] for row in SOURCES])
    return batch["input_ids"], batch["attention_mask"]


def noise_of(backbone: Backbone) -> Noise:
    return Noise(input_seeds(1, 2, *batch_of(backbone), LABELS))


def gradients(backbone: Backbone, loss: Tensor) -> list[Tensor]:
    backbone.model.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in backbone.model.parameters()]


def assert_same_gradients(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(part.abs().max().item() for part in expected)
    assert largest > 0
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=1e-5 * largest)


def scores_of(backbone: Backbone, warmups: Warmups) -> Scores:
    return score(backbone, sources_of(*batch_of(backbone)), warmups, LABELS)
