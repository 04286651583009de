"""One training step of the warmup method: sample, score, weigh (design, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.methods.objective import effective_sample_size, log_likelihood, marginal_loss, posterior_weights
from warmup.methods.sampling import Warmups, sample_warmups
from warmup.methods.scoring import Scores, score_warmups
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.families import dropout_off, evaluation_mode
from warmup.models.loading import Backbone


def warmup_loss(
    backbone: Backbone, method: WarmupMethod, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The sum over the batch of the marginal loss less the entropy bonus, and the gauges of the step.

    The source is read once, with its own dropout: that noise is common to the K warmups. Warmups are sampled and
    scored without dropout, so that equal warmups get equal weights.
    """
    encoded = backbone.family.encode(backbone.model, input_ids, attention_mask)
    with evaluation_mode(backbone.model.modules()):  # with gradient checkpointing in training mode there is no cache
        warmups = sample_warmups(backbone, encoded, method.num_samples, method.max_warmup_tokens)
    with dropout_off(backbone.family.scorer(backbone.model)):
        scores = score_warmups(backbone, encoded, warmups, labels)
    loss = marginal_loss(scores.target_logprob, scores.warmup_logprob, method.baseline, method.posterior_temperature)
    bonus = method.entropy_coef * scores.warmup_entropy.mean(-1)
    return (loss - bonus).sum(), gauges(warmups, scores, labels, method.posterior_temperature)


@torch.no_grad()
def gauges(warmups: Warmups, scores: Scores, labels: Tensor, temperature: float) -> dict[str, float]:
    """What tells a healthy run from a collapsed one (design, section 1), averaged over the batch.

    token_entropy: nats of the distributions that warmup tokens were drawn from. distinct: different warmups among K.
    effective_sample_size: 1 / sum w^2. length: tokens. forced_separators: share. gain: logmeanexp(l) - mean(l), in
    nats per input, what choosing among the warmups buys.
    """
    target_tokens = int((labels != IGNORED_LABEL).sum())
    likelihood = log_likelihood(scores.target_logprob)
    distinct = [len({tuple(row) for row in sample}) for sample in warmups.tokens.tolist()]
    weights = posterior_weights(scores.target_logprob, temperature)
    return {
        "target_nll": -likelihood.sum().item() / target_tokens,
        "warmup/token_entropy": (scores.warmup_entropy.sum() / scores.warmup_positions.sum().clamp(min=1)).item(),
        "warmup/distinct": sum(distinct) / len(distinct),
        "warmup/effective_sample_size": effective_sample_size(weights).mean().item(),
        "warmup/length": warmups.lengths.float().mean().item(),
        "warmup/forced_separators": warmups.forced.float().mean().item(),
        "warmup/gain": (likelihood - scores.target_logprob.mean(-1)).mean().item(),
    }
