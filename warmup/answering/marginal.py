"""Candidate targets weighed by several warmups: log p(y|x) as M draws from p(c|x) estimate it.

The estimate is logmeanexp_m log p(y|x,c_m), the logged loss of training with its sign turned (docs/method.md). M need
not be the K of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.methods.sampling import Warmups
from warmup.methods.scoring import read_targets, read_warmups, score_read
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.families import Encoded


@dataclass(frozen=True)
class Choice:
    """The best candidate of one input, and the warmup under which it is likeliest; both are indices."""

    candidate: int
    warmup: int


def score_candidates(
    backbone: Backbone,
    encoded: Encoded,
    warmups: Warmups | None,
    candidates: Sequence[Sequence[list[int]]],
    prefix: Sequence[int] = (),
) -> list[Tensor]:
    """[C, M] log p(y|x,c_m) of each input's C >= 1 candidates, token ids with their `</s>`; float64.

    `warmups` None scores log p(y|x) as SFT trains it, after `prefix`, and M is 1.
    """
    scores: list[list[list[float]]] = [[] for _ in candidates]
    for place in range(max(map(len, candidates))):
        inputs = [index for index, rows in enumerate(candidates) if place < len(rows)]
        labels = _padded([candidates[index][place] for index in inputs]).to(encoded.ids.device)
        chosen = torch.tensor(inputs)
        part = encoded.select(chosen.to(encoded.ids.device))
        if warmups is None:
            read = read_targets(backbone, part, labels, prefix)
        else:
            columns = torch.arange(warmups.count).expand(len(inputs), -1)
            read = read_warmups(backbone, part, warmups.select(columns, chosen), labels)
        logprob = score_read(backbone, read, targets_only=True).target_logprob
        for index, row in zip(inputs, logprob.tolist(), strict=True):
            scores[index].append(row)
    return [torch.tensor(rows, dtype=torch.float64) for rows in scores]


def best(scores: Tensor) -> Choice:
    """The candidate of [C, M] with the highest logmeanexp over the M warmups; of equal ones the first."""
    marginal = (scores.logsumexp(-1) - math.log(scores.shape[-1])).tolist()
    candidate = marginal.index(max(marginal))
    under = scores[candidate].tolist()
    return Choice(candidate, under.index(max(under)))


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [IGNORED_LABEL] * (longest - len(row)) for row in rows])
