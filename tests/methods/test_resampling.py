"""Posterior resampling: what it learns on average over its draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.methods.batch import LABELS, LIMIT, assert_same_gradients, batch_of, gradients
from tests.methods.oracle import coefficients, score, sources_of
from tests.methods.oracle import loss as oracle_loss
from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.sampling import even_weights
from warmup.methods.warmup import draw_warmups, warmup_step
from warmup.models.backbone import Backbone


class Chosen(Noise):
    """Noise whose last two numbers, which choose the warmups that `resample` learns from, are given."""

    def uniform(self, *shape: int) -> Tensor:
        return self.pair[None] if shape == (2,) else super().uniform(*shape)

    def __init__(self, seeds: Tensor, pair: Tensor) -> None:
        super().__init__(seeds)
        self.pair = pair


@pytest.mark.parametrize("baseline", ["mean", "loo", "none"])
def test_resampling_learns_what_marginal_learns_on_average(backbone: Backbone, baseline: str) -> None:
    """The average over all choices of its two draws, each with its exact probability, of one and the same sample."""
    method = WarmupMethod(num_samples=3, max_warmup_tokens=LIMIT, objective="resample", baseline=baseline)
    method.entropy_coef = 0.3
    ids, mask = (part[:1] for part in batch_of(backbone))
    seeds, labels = torch.tensor([5]), LABELS[:1]
    encoded = backbone.family.encode(backbone.model, ids, mask)
    warmups = draw_warmups(backbone, method, encoded, Noise(seeds))
    scores = score(backbone, sources_of(ids, mask), warmups, labels)
    method.posterior_temperature = scores.target_logprob.std().item()  # so that all have some weight
    marginal = replace(method, objective="marginal", entropy_coef=0.0)
    weights, differences, value = coefficients(marginal, scores.target_logprob[0].tolist(), [1 / 3] * 3)
    compared = [w - d for w, d in zip(weights, differences, strict=True)]
    factor = sum(compared)
    shares = [b / factor for b in compared] if factor else weights
    points = cells(weights, shares)
    assert len(points) > 6 or baseline == "none"
    average = [torch.zeros_like(part) for part in backbone.model.parameters()]
    for probability, pair in points:
        encoded = backbone.family.encode(backbone.model, ids, mask)
        step = warmup_step(backbone, method, encoded, labels, Chosen(seeds, torch.tensor(pair, dtype=torch.float64)))
        entropy = score(backbone, sources_of(ids, mask), step.measured, labels).warmup_entropy.item()
        assert step.loss.item() == pytest.approx(-value - 0.3 * entropy, rel=1e-6)
        for total, part in zip(average, gradients(backbone, step.loss), strict=True):
            total += probability * part
    bonus = 0.3 * (scores.warmup_entropy[0] * torch.tensor(shares, dtype=torch.float64)).sum()
    expected = oracle_loss(marginal, scores, even_weights(1, 3)) - bonus
    assert_same_gradients(average, gradients(backbone, expected))


def cells(weights: list[float], shares: list[float]) -> list[tuple[float, list[float]]]:
    """Every pair of choices that maximal coupling makes: its probability, and two uniform numbers that lead to it.

    The first number finds one of the weights by inversion. Below share / weight the second draw is the same warmup;
    above, one of those whose share exceeds their weight, in proportion to the excess. Each cell of the unit square is
    there twice, with the numbers just inside of two opposite corners, so that its bounds are seen.
    """
    found, below = [], 0.0
    excess = [max(share - weight, 0.0) for share, weight in zip(shares, weights, strict=True)]
    for own, weight in enumerate(weights):
        agreed = min(1.0, shares[own] / weight)
        parts = [agreed] + [(1 - agreed) * part / sum(excess) for part in excess if agreed < 1 and part > 0]
        start = 0.0
        for width in parts:
            for inside in (1e-3, 1 - 1e-3):
                found.append((weight * width / 2, [below + inside * weight, start + inside * width]))
            start += width
        below += weight
    assert sum(probability for probability, _ in found) == pytest.approx(1)
    return found
