"""The loss on examples that are not learnt from, in the terms of training: nats per target token."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from warmup.answering.answerer import Answerer, encoded_batches
from warmup.answering.marginal import score_candidates
from warmup.models.modes import evaluation_mode


@torch.no_grad()
def dev_loss(answerer: Answerer, sources: Sequence[list[int]], targets: Sequence[list[int]], samples: int) -> float:
    """-log p(y|x) per token of `targets`, which are token ids with their `</s>`, shared out over all processes.

    A model with warmups draws `samples` of them, and p(y|x) is the mean of p(y|x,c) over those.
    """
    backbone, samples = answerer.backbone, 1 if answerer.limits.warmup is None else samples
    size, prefix = max(1, answerer.evaluation.batch_size // samples), backbone.pause_prefix(answerer.limits.pauses)
    cpu = next(backbone.model.parameters()).device.type == "cpu"
    nats = 0.0
    with (
        PartialState(cpu=cpu).split_between_processes(list(range(len(sources)))) as share,
        evaluation_mode(backbone.model.modules()),
    ):
        own = [sources[index] for index in share]
        for chosen, encoded in encoded_batches(backbone, own, size, "dev loss", shared=True):
            warmups = None if answerer.limits.warmup is None else answerer.draw(encoded, samples)
            rows = [[targets[share[index]]] for index in chosen]
            for scores in score_candidates(backbone, encoded, warmups, rows, prefix):
                nats -= (scores[0].logsumexp(-1) - math.log(scores.shape[-1])).item()
    if PartialState().num_processes > 1:
        nats = sum(gather_object([nats]))
    return nats / sum(map(len, targets))
