"""Random numbers that belong to an example and a training step, not to a batch.

Each input has a seed made of its tokens, the run's seed and the optimiser step. Its warmups are then the same however
examples are dealt out to batches, accumulation steps and processes, and a resumed run draws what the killed one would
have drawn. Integer arithmetic only, so a CPU and a GPU draw alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 and below: the constants of SplitMix64, as signed integers
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685


def input_seeds(seed: int, step: int, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """[B] one 64-bit seed per example, from its source [B, S] and target tokens [B, T]; padding does not matter."""
    sources = _fingerprint(input_ids, attention_mask.bool())
    targets = _fingerprint(labels, labels >= 0)
    return _mix(_mix(_mix(sources) + targets) + _mix(torch.tensor(seed * 1_000_003 + step, device=labels.device)))


def _fingerprint(tokens: Tensor, present: Tensor) -> Tensor:
    place = present.cumsum(dim=-1)
    return torch.where(present, _mix(tokens + _mix(place)), 0).sum(-1)


class Noise:
    """Uniform numbers of B inputs; each call continues their streams."""

    def __init__(self, seeds: Tensor, drawn: int = 0) -> None:
        self.seeds = seeds
        self.drawn = drawn  # numbers of each stream

    def select(self, inputs: Tensor) -> Noise:
        """The streams of some inputs, from where they are."""
        return Noise(self.seeds[inputs], self.drawn)

    def uniform(self, *shape: int) -> Tensor:
        """[B, *shape] in the open interval (0, 1), float64."""
        count = math.prod(shape)
        place = torch.arange(self.drawn, self.drawn + count, device=self.seeds.device)
        self.drawn += count
        bits = _mix(self.seeds[:, None] + _mix(place)[None])
        return (((bits >> 11) & (2**53 - 1)).double() + 0.5).mul(2.0**-53).view(-1, *shape)

    def gumbel(self, *shape: int) -> Tensor:
        """[B, *shape] standard Gumbel variables, float64."""
        return -(-self.uniform(*shape).log()).log()


def invert(share: Tensor, uniform: Tensor) -> Tensor:
    """[N] one index of each row of weights [N, V], which need not sum to one, by inversion of uniform numbers [N].

    Summed in float64: a vocabulary of 250,000 has tokens that float32 sums would lose.
    """
    sums = share.double().cumsum(-1)
    index = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True).squeeze(-1)
    return index.clamp(max=share.shape[-1] - 1)  # weights of zero have nothing to draw from


def _mix(values: Tensor) -> Tensor:
    """SplitMix64 (Steele, Lea and Flood 2014), elementwise on int64; multiplication wraps around."""
    values = values + _GOLDEN
    values = (values ^ ((values >> 30) & (2**34 - 1))) * _FIRST
    values = (values ^ ((values >> 27) & (2**37 - 1))) * _SECOND
    return values ^ ((values >> 31) & (2**33 - 1))
