"""The warmup objective as pure tensor mathematics (design, section 1): no model, tokenizer or configuration.

B inputs, K warmups of each. `target_logprob` is l_k = log p(y|x,c_k), `warmup_logprob` is s_k = log p(c_k|x), both
sums over tokens [B, K]; a separator that was forced at the length limit counts in neither.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_likelihood(target_logprob: Tensor) -> Tensor:
    """[B] Monte Carlo estimate of log p(y|x) from warmups drawn from p(c|x): logmeanexp over K."""
    return target_logprob.logsumexp(dim=-1) - math.log(target_logprob.shape[-1])


def posterior_weights(target_logprob: Tensor, temperature: float = 1.0) -> Tensor:
    """[B, K] self-normalised weights w = softmax_k(l_k / temperature), without gradient.

    With temperature 1 they estimate p(c_k|x,y), consistent as K grows. Computed in float32 at least.
    """
    return torch.softmax(_wide(target_logprob.detach()) / temperature, dim=-1)


def baseline_weights(target_logprob: Tensor, kind: str, temperature: float = 1.0) -> Tensor:
    """[B, K] what each weight is compared with, so that a warmup gains only where it beats the others.

    mean: 1/K. loo: the weight that warmup k would have if its log-likelihood were the mean of the others'
    (as VIMCO's geometric mean, Mnih and Rezende 2016); it does not depend on c_k. none: 0.
    """
    scores = _wide(target_logprob.detach()) / temperature
    count = scores.shape[-1]
    if kind == "none":
        return torch.zeros_like(scores)
    if kind == "mean" or count == 1:
        return torch.full_like(scores, 1 / count)
    if kind != "loo":
        raise ValueError(f"unknown baseline {kind!r}")
    others_mean = (scores.sum(-1, keepdim=True) - scores) / (count - 1)
    apart = scores[..., None, :].expand(*scores.shape, count)  # [B, k, j]: score j as warmup k sees it
    own = torch.eye(count, dtype=torch.bool, device=scores.device)
    replaced = torch.where(own, others_mean[..., :, None], apart)
    return torch.softmax(replaced, dim=-1).diagonal(dim1=-2, dim2=-1)


def surrogate_loss(
    target_logprob: Tensor, warmup_logprob: Tensor, target_weights: Tensor, warmup_weights: Tensor
) -> Tensor:
    """[B] a loss whose gradient is -(sum_k target_weights grad l_k + sum_k warmup_weights grad s_k)."""
    target_term = (target_weights.detach() * target_logprob).sum(-1)
    return -target_term - (warmup_weights.detach() * warmup_logprob).sum(-1)


def marginal_loss(
    target_logprob: Tensor, warmup_logprob: Tensor, baseline: str = "mean", temperature: float = 1.0
) -> Tensor:
    """[B] the `marginal` objective: its value is -log p(y|x) (estimated), its gradient the weighted one of the design.

    grad = -(sum_k w_k grad l_k + sum_k (w_k - b_k) grad s_k).
    """
    weights = posterior_weights(target_logprob, temperature)
    advantage = weights - baseline_weights(target_logprob, baseline, temperature)
    loss = surrogate_loss(target_logprob, warmup_logprob, weights, advantage)
    return loss + (-log_likelihood(target_logprob) - loss).detach()


def effective_sample_size(weights: Tensor) -> Tensor:
    """[B] 1 / sum_k w_k^2: K when all weights are equal, 1 when a single warmup takes all."""
    return 1 / weights.square().sum(-1)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
