"""The warmup objectives as pure tensor mathematics (docs/method.md): no model, tokenizer or configuration.

B inputs, K warmups of each. `target_logprob` is l_k = log p(y|x,c_k), `warmup_logprob` is s_k = log p(c_k|x), both
sums over tokens [B, K]; a separator that was forced at the length limit counts in neither. `log_prior_weight` [B, K]
says what each warmup stands for: -log K for draws from p(c|x), log p(c|x) - log q(c) - log K for draws from q, -inf for
a slot without a warmup. Then p(y|x) is estimated by sum_k exp(log_prior_weight_k + l_k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.methods.noise import invert

LOWEST = -1e30  # finite, so that a likelihood of zero makes no NaN


@dataclass(frozen=True)
class Coefficients:
    """What an objective multiplies gradients with; no gradient flows through them."""

    target: Tensor  # [B, K] of grad l_k
    warmup: Tensor  # [B, K] of grad s_k
    value: Tensor  # [B] what the objective estimates: log p(y|x), or a bound on it


def log_likelihood(target_logprob: Tensor, log_prior_weight: Tensor) -> Tensor:
    """[B] the estimate of log p(y|x): logsumexp over K; for draws from p(c|x) the logmeanexp."""
    return (log_prior_weight + _clamped(target_logprob)).logsumexp(dim=-1)


def posterior_weights(target_logprob: Tensor, log_prior_weight: Tensor, temperature: float = 1.0) -> Tensor:
    """[B, K] self-normalised weights w = softmax_k(log_prior_weight_k + l_k / temperature), without gradient.

    With temperature 1 they estimate p(c_k|x,y), consistent as K grows. Computed in float32 at least.
    """
    return torch.softmax(log_prior_weight + _clamped(target_logprob.detach()) / temperature, dim=-1)


def prior_weights(log_prior_weight: Tensor) -> Tensor:
    """[B, K] self-normalised weights of p(c|x): 1/K for draws from it."""
    return torch.softmax(log_prior_weight, dim=-1)


def baseline_weights(target_logprob: Tensor, log_prior_weight: Tensor, kind: str, temperature: float = 1.0) -> Tensor:
    """[B, K] what each weight is compared with, so that a warmup gains only where it beats the others.

    mean: the prior weight, 1/K for draws from p(c|x). loo: the weight that warmup k would have if its log-likelihood
    were the mean of the others' (as VIMCO's geometric mean, Mnih and Rezende 2016), whatever c_k is. none: 0.
    """
    if kind == "none":
        return torch.zeros_like(log_prior_weight)
    if kind == "mean":
        return prior_weights(log_prior_weight)
    if kind != "loo":
        raise ValueError(f"unknown baseline {kind!r}")
    scores = _clamped(target_logprob.detach()) / temperature
    replaced = log_prior_weight[..., None, :] + _without_own(scores, log_prior_weight)
    return torch.softmax(replaced, dim=-1).diagonal(dim1=-2, dim2=-1)


@dataclass(frozen=True)
class Scored:
    """The warmups of B inputs as an objective weighs them; no gradient flows through any of it."""

    target_logprob: Tensor  # [B, K] float32 at least, and finite
    log_prior_weight: Tensor  # [B, K]
    baseline: str  # of those that are compared with one
    temperature: float  # of the posterior


def marginal(scored: Scored) -> Coefficients:
    """w_k and w_k - b_k; the value estimates log p(y|x)."""
    given = (scored.target_logprob, scored.log_prior_weight)
    weights = posterior_weights(*given, scored.temperature)
    compared = baseline_weights(*given, scored.baseline, scored.temperature)
    return Coefficients(weights, weights - compared, log_likelihood(*given))


def vimco(scored: Scored) -> Coefficients:
    """w_k and the leave-one-out learning signal of the K-sample bound E[logmeanexp(l)] (Mnih and Rezende 2016)."""
    given = (scored.target_logprob, scored.log_prior_weight)
    prior, likelihood = prior_weights(scored.log_prior_weight), log_likelihood(*given)
    left_out = (scored.log_prior_weight[..., None, :] + _without_own(*given)).logsumexp(-1)
    signal = torch.where(_alone(prior) | (prior == 0), 0.0, likelihood[..., None] - left_out)
    return Coefficients(posterior_weights(*given), signal, likelihood)


def elbo(scored: Scored) -> Coefficients:
    """1/K and (l_k - mean_{j != k} l_j) / K, of the bound E[mean(l)] (RLOO; JEPO and LaTRO)."""
    scores, prior = scored.target_logprob, prior_weights(scored.log_prior_weight)
    others = _without_own(scores, scored.log_prior_weight).diagonal(dim1=-2, dim2=-1)
    signal = torch.where(_alone(prior), 0.0, prior * (scores - others))
    return Coefficients(prior, signal, (prior * scores).sum(-1))


# `vimco` and `elbo` are for draws from p(c|x) itself; with K = 1 there is nothing to leave out: no warmup term.
# `resample` is none of these: it learns from one warmup alone (`resampled` here, `_resample` in warmup.py).
OBJECTIVES: dict[str, Callable[[Scored], Coefficients]] = {"marginal": marginal, "vimco": vimco, "elbo": elbo}


def coefficients(
    objective: str,
    target_logprob: Tensor,
    log_prior_weight: Tensor,
    baseline: str = "mean",
    temperature: float = 1.0,
) -> Coefficients:
    """Coefficients of one of `OBJECTIVES`."""
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}")
    scores = _clamped(target_logprob.detach())
    return OBJECTIVES[objective](Scored(scores, log_prior_weight, baseline, temperature))


def resampled(weights: Tensor, baseline: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior resampling: one warmup drawn from the weights [B, K], and one from the baseline's.

    Returns the two indices [B] and the factor [B] of the second's gradient, the sum of the baseline weights, so that
    grad l_j + grad s_j - factor * grad s_m has the expectation of `marginal`. The two are the same warmup as often as
    can be (maximal coupling): of two independent draws, the second adds noise instead of taking it away. `uniform`
    [B, 2] are numbers in (0, 1).
    """
    factor = baseline.sum(-1)
    share = torch.where(factor[:, None] > 0, baseline / factor[:, None], 0.0)
    chosen = invert(weights, uniform[:, 0])
    agreed = (share / weights).gather(-1, chosen[:, None]).squeeze(-1).clamp(max=1)
    apart = invert((share - weights).clamp(min=0), (uniform[:, 1] - agreed) / (1 - agreed))
    return chosen, torch.where(uniform[:, 1] < agreed, chosen, apart), factor


def surrogate_loss(target_logprob: Tensor, warmup_logprob: Tensor, parts: Coefficients) -> Tensor:
    """[B] a loss of value `-parts.value` and gradient -(sum_k target grad l_k + sum_k warmup grad s_k)."""
    target = (parts.target.detach() * _clamped(target_logprob)).sum(-1)
    warmup = (parts.warmup.detach() * _clamped(warmup_logprob)).sum(-1)
    return (target + warmup).detach() - parts.value.detach() - target - warmup


def effective_sample_size(weights: Tensor) -> Tensor:
    """[B] 1 / sum_k w_k^2: K when all weights are equal, 1 when a single warmup takes all."""
    return 1 / weights.square().sum(-1)


def allocate(target_logprob: Tensor, extra: int) -> Tensor:
    """[B] how many of `extra` further warmups each input gets, more where its K0 weights [B, K0] are less even.

    In proportion to the standard error of the estimate of p(y|x), sqrt(K0 / ESS - 1) relative to its mean (Neyman
    allocation), in whole numbers by largest remainders; evenly where no input is uncertain. Sums to `extra`.
    """
    weights = torch.softmax(_clamped(target_logprob.detach()), dim=-1)
    spread = (weights.shape[-1] / effective_sample_size(weights) - 1).clamp(min=0).sqrt().double()
    share = extra * (spread / spread.sum() if spread.sum() > 0 else torch.full_like(spread, 1 / len(spread)))
    whole = share.floor().long()
    left = extra - int(whole.sum())
    whole[(share - whole).topk(left).indices] += 1
    return whole


def _alone(prior: Tensor) -> Tensor:
    """[B, K] whether a warmup has no others to be compared with."""
    return prior == 1.0


def _without_own(scores: Tensor, log_prior_weight: Tensor) -> Tensor:
    """[B, k, j] score j, but on the diagonal the mean score of the others, weighted as the prior weighs them."""
    count = scores.shape[-1]
    own = torch.eye(count, dtype=torch.bool, device=scores.device)
    weights = prior_weights(log_prior_weight)[..., None, :].expand(*scores.shape, count).masked_fill(own, 0.0)
    total = weights.sum(-1, keepdim=True)
    weights = torch.where(total > 0, weights / total, own.to(weights))  # alone: its own score
    apart = scores[..., None, :].expand(*scores.shape, count)
    return torch.where(own, (weights * apart).sum(-1, keepdim=True), apart)


def _clamped(values: Tensor) -> Tensor:
    wide = values if values.dtype == torch.float64 else values.float()
    return wide.clamp(min=LOWEST)
