"""Brute force on a tiny vocabulary: every warmup there is, with its exact probability."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from warmup.methods.sampling import Warmups
from warmup.methods.scoring import Scores, score_warmups
from warmup.models.families import Encoded
from warmup.models.loading import Backbone


def every_warmup(ordinary: list[int], limit: int, padding: int) -> Warmups:
    """All warmups of at most `limit` tokens out of `ordinary`, for one input: [1, all, limit]."""
    rows = [list(tokens) for length in range(limit + 1) for tokens in itertools.product(ordinary, repeat=length)]
    tokens = torch.tensor([[row + [padding] * (limit - len(row)) for row in rows]])
    lengths = torch.tensor([[len(row) for row in rows]])
    return Warmups(tokens, lengths, lengths == limit)


def exact_log_likelihood(
    backbone: Backbone, encoded: Encoded, warmups: Warmups, labels: Tensor
) -> tuple[Tensor, Scores]:
    """log p(y|x) = log sum_c p(c|x) p(y|x,c) over all warmups [1], with gradient, and the scores it is made of."""
    scores = score_warmups(backbone, encoded, warmups, labels)
    return (scores.warmup_logprob + scores.target_logprob).logsumexp(-1), scores
