"""Supervised fine-tuning: the baseline, the warm start of the warmup method, and, after pauses, its control."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from warmup.methods.scoring import read_targets, weigh_read
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL, Batch


def sft_loss(
    backbone: Backbone, batch: Batch, smoothing: float = 0.0, prefix: Sequence[int] = ()
) -> tuple[Tensor, dict[str, float]]:
    """The sum over the batch of -log p(y|x), with smoothed labels if asked for, and the gauges of the step.

    Args:
        smoothing: e, in [0, 1). A token's loss is (1 - e) times its negative log-likelihood, and e times the mean of
            -log p over all rows of the output layer, as torch's `cross_entropy(label_smoothing=e)` has it. The gauge
            `target_nll` is of the labels as they are.
        prefix: token ids that stand before every target and are not learnt: pauses (Goyal et al. 2023,
            arXiv 2310.02226).
    """
    encoded = backbone.family.encode(backbone.model, batch.input_ids, batch.attention_mask, shared=False)
    read = read_targets(backbone, encoded, batch.labels, prefix)
    total, totals = weigh_read(backbone, read, lambda part, _: -part.target_logprob.sum(-1), smoothing)
    return total, {"target_nll": -totals.target_logprob.sum().item() / int((batch.labels != IGNORED_LABEL).sum())}
