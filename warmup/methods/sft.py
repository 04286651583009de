"""Supervised fine-tuning: the baseline, the warm start of the warmup method, and, after pauses, its control."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from warmup.methods.scoring import read_targets, weigh_read
from warmup.models.encoding import IGNORED_LABEL, Batch
from warmup.models.loading import Backbone


def sft_loss(backbone: Backbone, batch: Batch, prefix: Sequence[int] = ()) -> tuple[Tensor, dict[str, float]]:
    """The sum over the batch of -log p(y|x), and the gauges of the step.

    `prefix`, token ids, stands before every target and is not learnt: pauses (Goyal et al. 2023, arXiv 2310.02226).
    """
    encoded = backbone.family.encode(backbone.model, batch.input_ids, batch.attention_mask, shared=False)
    read = read_targets(backbone, encoded, batch.labels, prefix)
    total, _ = weigh_read(backbone, read, lambda totals, _: -totals.target_logprob.sum(-1))
    return total, {"target_nll": total.item() / int((batch.labels != IGNORED_LABEL).sum())}
