"""What tells a healthy run from a collapsed one (docs/method.md), averaged over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from warmup.methods.objective import effective_sample_size, log_likelihood, posterior_weights, prior_weights
from warmup.methods.sampling import Warmups, beside, even_weights
from warmup.methods.scoring import score_warmups
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.families import Encoded


@torch.no_grad()
def step_gauges(
    warmups: Warmups,
    target_logprob: Tensor,
    log_prior_weight: Tensor,
    entropy: float,
    labels: Tensor,
    temperature: float,
) -> dict[str, float]:
    """Gauges of a step's warmups and their scores [B, K]; `entropy` is that of `token_entropy`.

    token_entropy: nats of the distributions that warmup tokens were drawn from. distinct: different warmups of an
    input. distinct_inputs: share of inputs whose first warmup no other input of the batch has. effective_sample_size:
    1 / sum w^2. length: tokens. forced_separators: share. gain: logmeanexp(l) - mean(l), in nats per input, what
    choosing among the warmups buys.
    """
    likelihood = log_likelihood(target_logprob, log_prior_weight)
    weights = posterior_weights(target_logprob, log_prior_weight, temperature)
    prior = prior_weights(log_prior_weight)
    present = warmups.log_prior_weight > float("-inf")
    rows = [
        [tuple(row) for row, there in zip(sample, kept, strict=True) if there]
        for sample, kept in zip(warmups.tokens.tolist(), present.tolist(), strict=True)
    ]
    first = [row[0] for row in rows]
    return {
        "target_nll": -likelihood.sum().item() / _target_tokens(labels),
        "warmup/token_entropy": entropy,
        "warmup/distinct": sum(len(set(row)) for row in rows) / len(rows),
        "warmup/distinct_inputs": sum(first.count(row) == 1 for row in first) / len(first),
        "warmup/effective_sample_size": effective_sample_size(weights).mean().item(),
        "warmup/length": warmups.lengths[present].float().mean().item(),
        "warmup/forced_separators": warmups.forced[present].float().mean().item(),
        "warmup/gain": (likelihood - (prior * target_logprob).sum(-1)).mean().item(),
    }


def token_entropy(warmups: Warmups, entropy: Tensor) -> float:
    """Nats per drawn token, from the entropies [B, K] that warmups sum up over their tokens."""
    present = warmups.log_prior_weight > float("-inf")
    drawn = (warmups.lengths + ~warmups.forced)[present].sum().clamp(min=1)
    return entropy[present.to(entropy.device)].sum().item() / drawn.item()


@torch.no_grad()
def information_gauges(backbone: Backbone, encoded: Encoded, warmups: Warmups, labels: Tensor) -> dict[str, float]:
    """Nats per target token with an input's own first warmup, with another input's, and with an empty one.

    Own below another's: the warmup carries information. Own below empty: writing one helps. Dropout is to be off.
    """
    own = warmups.select(torch.zeros(len(labels), 1, dtype=torch.long))
    others = Warmups(*(part.roll(1, dims=0) for part in (own.tokens, own.lengths, own.forced, own.log_prior_weight)))
    nothing = torch.zeros_like(own.lengths)
    empty = Warmups(
        torch.full_like(own.tokens, backbone.tokenizer.pad_token_id), nothing, nothing.bool(), own.log_prior_weight
    )
    three = beside([own, others, empty], even_weights(len(labels), 3))
    scores = score_warmups(backbone, encoded.detach(), three, labels).target_logprob
    names = ["warmup/target_nll_own", "warmup/target_nll_shuffled", "warmup/target_nll_empty"]
    values = (-scores.sum(0) / _target_tokens(labels)).tolist()
    found = dict(zip(names, values, strict=True))
    if len(labels) == 1:
        del found["warmup/target_nll_shuffled"]  # there is no other input
    return found


def _target_tokens(labels: Tensor) -> int:
    return int((labels != IGNORED_LABEL).sum())
