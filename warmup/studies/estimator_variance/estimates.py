"""Gradient estimates from drawn warmups, and how far they are from the exact gradient.

Warmups are drawn and scored by the engine (`warmup_step`). An estimate is a sum of the warmups' gradients, weighed as
the objective says, so its error needs no backward pass of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot, pad

from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.objective import baseline_weights, coefficients, posterior_weights, resampled
from warmup.methods.warmup import warmup_step
from warmup.studies.estimator_variance.problem import INPUTS, WARMUPS, Problem, every_warmup

GROUPS = 20  # of draws, for the jackknife's standard errors


@dataclass(frozen=True)
class DrawnWarmups:
    """K warmups of each input, R times: N = R * I."""

    places: Tensor  # [N, K] which of all warmups of the batch
    target_logprob: Tensor  # [N, K]
    log_prior_weight: Tensor  # [N, K]
    uniform: Tensor  # [N, 2] for `resample`


@torch.no_grad()
def drawn_and_scored(problem: Problem, method: WarmupMethod, draws: int, seed: int) -> DrawnWarmups:
    """Warmups of a sampler, drawn and scored by the engine; batches do not matter but for `adaptive`."""
    backbone = problem.backbone
    index = {tuple(row): place for place, row in enumerate(every_warmup().tokens[0].tolist())}
    encoded = backbone.family.encode(backbone.model, problem.ids, problem.mask)
    at_once = 1 if method.sampler == "adaptive" else 50
    parts = []
    for start in range(0, draws, at_once):
        inputs = torch.arange(INPUTS).repeat(min(at_once, draws - start))
        noise = Noise(torch.arange(len(inputs)) + start * INPUTS + seed * 10**9)
        step = warmup_step(backbone, method, encoded.select(inputs), problem.labels[inputs], noise)
        rows = step.warmups.tokens.flatten(0, 1).tolist()
        # an empty slot may hold anything, and weighs nothing
        places = torch.tensor([index.get(tuple(row), 0) for row in rows]).view(len(inputs), -1)
        empty = (0, INPUTS * method.num_samples - places.shape[1])  # `adaptive` may spend all on one input
        places = pad(places + WARMUPS * inputs[:, None], empty)
        weight = pad(step.log_prior_weight, empty, value=float("-inf"))
        parts.append((places, pad(step.target_logprob, empty), weight, noise.uniform(2)))
    places, target_logprob, weight, uniform = (torch.cat(values) for values in zip(*parts, strict=True))
    used = slice(0, int((weight > float("-inf")).any(0).sum()))
    return DrawnWarmups(places[:, used], target_logprob[:, used], weight[:, used], uniform)


def estimates(problem: Problem, drawn: DrawnWarmups, objective: str, baseline: str) -> tuple[Tensor, Tensor]:
    """[R, D] the estimated gradients of the batch: their target terms, and their warmup terms."""
    scores, weight = drawn.target_logprob, drawn.log_prior_weight
    if objective == "resample":
        compared = baseline_weights(scores, weight, baseline)
        chosen, other, factor = resampled(posterior_weights(scores, weight), compared, drawn.uniform)
        target = one_hot(chosen, scores.shape[1]).double()
        warmup = target - factor[:, None] * one_hot(other, scores.shape[1])
    else:
        parts = coefficients(objective, scores, weight, baseline)
        target, warmup = parts.target, parts.warmup
    draws = len(scores) // INPUTS
    found = []
    for factors, gradients in ((target, problem.of_target), (warmup, problem.of_warmup)):
        spread = torch.zeros(draws, len(gradients), dtype=torch.float64)
        spread.scatter_add_(1, drawn.places.reshape(draws, -1), factors.double().reshape(draws, -1))
        found.append(spread @ gradients)
    return found[0], found[1]


def estimation_errors(target: Tensor, warmup: Tensor, problem: Problem) -> dict[str, float]:
    """Figures of estimated gradients, given as their target and warmup terms [R, D]: of the whole and of each term.

    bias: |E g - exact|^2 and variance: E|g - E g|^2, both relative to |exact|^2. cosine: of one estimate with the exact
    gradient, on average. cosine_of_mean: of E g with it. NAME_error: standard error, by the jackknife over groups.
    """
    # row 0 averages over all groups of draws, each further row leaves one group out
    weights = torch.cat([torch.ones(1, GROUPS), 1 - torch.eye(GROUPS)]).to(target)
    count = weights.sum(-1) * (len(target) // GROUPS)
    weights = weights / weights.sum(-1, keepdim=True)

    def average(values: Tensor) -> Tensor:
        return weights @ values.unflatten(0, (GROUPS, -1)).mean(1)

    parts = {"": (target + warmup, problem.exact_target + problem.exact_warmup)}
    parts |= {"target_": (target, problem.exact_target), "warmup_": (warmup, problem.exact_warmup)}
    found = {}
    for part, (values, exact) in parts.items():
        mean, norm = average(values), exact.square().sum()
        spread = (average(values.square().sum(-1)) - mean.square().sum(-1)) * count / (count - 1)
        found[f"{part}bias"] = ((mean - exact).square().sum(-1) - spread / count) / norm  # less what chance adds to it
        found[f"{part}variance"] = spread / norm
        found[f"{part}cosine"] = average(cosine_similarity(values, exact[None]))
        found[f"{part}cosine_of_mean"] = cosine_similarity(mean, exact[None])
    errors = {f"{name}_error": (value[1:].var(correction=0) * (GROUPS - 1)).sqrt() for name, value in found.items()}
    return {name: value.flatten()[0].item() for name, value in (found | errors).items()}
