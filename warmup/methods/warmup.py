"""One training step of the warmup method: sample, score, weigh (docs/method.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.methods.gauges import information_gauges, step_gauges, token_entropy
from warmup.methods.noise import Noise
from warmup.methods.objective import (
    allocate,
    baseline_weights,
    coefficients,
    log_likelihood,
    posterior_weights,
    prior_weights,
    resampled,
    surrogate_loss,
)
from warmup.methods.output_layer import Totals
from warmup.methods.recognition import Recognition
from warmup.methods.sampling import Proposal, Warmups, beside, even_weights, sample_warmups
from warmup.methods.scoring import Reading, read_warmups, score_read, shared_dropout, weigh_read
from warmup.methods.without_replacement import sample_without_replacement
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL, Batch
from warmup.models.families import Encoded
from warmup.models.modes import SharedDropout, dropout_off, evaluation_mode


@dataclass(frozen=True)
class Step:
    """A step's loss, and what its gauges are made of."""

    loss: Tensor  # the sum over the batch
    warmups: Warmups  # [B, K]
    target_logprob: Tensor  # [B, K]
    log_prior_weight: Tensor  # [B, K]
    measured: Warmups  # those whose entropies are known: all, or one per input
    entropy: Tensor  # of those, summed over a warmup's tokens


def warmup_loss(
    backbone: Backbone,
    method: WarmupMethod,
    batch: Batch,
    seeds: Tensor,
    measure: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """The sum over the batch of the objective's loss less the entropy bonus, and the gauges of the step.

    The source is read once, with its own dropout: that noise is common to the K warmups. Warmups are sampled without
    dropout, and scored with one mask for all K, so that equal warmups get equal weights.

    Args:
        seeds: [B] of each example's random numbers (`noise.input_seeds`).
        measure: also tell what the target's likelihood is with another input's warmup and with none.
    """
    encoded = backbone.family.encode(backbone.model, batch.input_ids, batch.attention_mask)
    step = warmup_step(backbone, method, encoded, batch.labels, Noise(seeds))
    gauges = step_gauges(
        step.warmups,
        step.target_logprob,
        step.log_prior_weight,
        token_entropy(step.measured, step.entropy),
        batch.labels,
        method.posterior_temperature,
    )
    if measure:
        with evaluation_mode(backbone.model.modules()):
            gauges |= information_gauges(backbone, encoded, step.warmups, batch.labels)
    return step.loss, gauges


def draw_warmups(backbone: Backbone, method: WarmupMethod, encoded: Encoded, noise: Noise) -> Warmups:
    """K warmups of each input from its source alone; dropout and gradient checkpointing are off meanwhile."""
    count, limit = method.num_samples, method.max_warmup_tokens
    with evaluation_mode(backbone.model.modules()):
        if method.sampler == "without_replacement":
            return sample_without_replacement(backbone, encoded, count, limit, noise)
        proposal = Proposal(method.sampling_temperature, method.sampling_top_p)
        return sample_warmups(backbone, encoded, count, limit, noise, proposal)


Draw = Callable[[Backbone, WarmupMethod, Encoded, Noise], Warmups]


def warmup_step(
    backbone: Backbone,
    method: WarmupMethod,
    encoded: Encoded,
    labels: Tensor,
    noise: Noise,
    draw: Draw = draw_warmups,
) -> Step:
    """Sample, score and weigh the warmups of a batch whose sources have been read.

    `draw` is for those that count operations on tensors without values, from which nothing can be drawn.
    """
    how = _resample if method.objective == "resample" else _weigh_all
    return how(backbone, method, encoded, labels, noise, draw)


def _weigh_all(
    backbone: Backbone, method: WarmupMethod, encoded: Encoded, labels: Tensor, noise: Noise, draw: Draw
) -> Step:
    """Objectives that weigh all K warmups with gradient."""
    dropout = shared_dropout(backbone, method.max_warmup_tokens, labels)
    recognition = None
    if method.sampler == "recognition":
        recognition = Recognition.draw(backbone, method, encoded, labels, noise)
        warmups = recognition.warmups
        read = read_warmups(backbone, encoded, warmups, labels, dropout)
    elif method.sampler == "adaptive":
        warmups, read = _adaptive(backbone, method, encoded, labels, noise, dropout)
    else:
        warmups = draw(backbone, method, encoded, noise)
        read = read_warmups(backbone, encoded, warmups, labels, dropout)
    drawn_weight = warmups.log_prior_weight.to(encoded.ids.device)

    def prior(totals: Totals, inputs: slice) -> Tensor:
        return recognition.log_prior_weight(totals, inputs) if recognition else drawn_weight[inputs]

    def loss(totals: Totals, inputs: slice) -> Tensor:
        weight = prior(totals, inputs)
        parts = coefficients(
            method.objective, totals.target_logprob, weight, method.baseline, method.posterior_temperature
        )
        bonus = method.entropy_coef * (prior_weights(weight) * totals.warmup_entropy).sum(-1)
        return surrogate_loss(totals.target_logprob, totals.warmup_logprob, parts) - bonus

    value, totals = weigh_read(backbone, read, loss)
    weight = prior(totals, slice(None))
    if recognition:
        posterior = posterior_weights(totals.target_logprob, weight, method.posterior_temperature)
        value = value + recognition.loss(backbone, posterior)
    return Step(value, warmups, totals.target_logprob, weight, warmups, totals.warmup_entropy)


def _adaptive(
    backbone: Backbone, method: WarmupMethod, encoded: Encoded, labels: Tensor, noise: Noise, dropout: SharedDropout
) -> tuple[Warmups, Reading]:
    """A budget of `num_samples` warmups per input on average, half of it spent where the first half is undecided.

    Every input gets half of its share; the other halves go to inputs whose weights are the least even.
    """
    batch, limit = len(labels), method.max_warmup_tokens
    few = math.ceil(method.num_samples / 2)
    with evaluation_mode(backbone.model.modules()):
        first = sample_warmups(backbone, encoded, few, limit, noise)
    read = read_warmups(backbone, encoded, first, labels, dropout)
    scores = score_read(backbone, read, targets_only=True)
    extra = allocate(scores.target_logprob, batch * (method.num_samples - few)).cpu()
    most = int(extra.max())
    if not most:
        return first, read
    inputs = extra.nonzero().squeeze(-1)
    with evaluation_mode(backbone.model.modules()):
        chosen = inputs.to(encoded.ids.device)
        more = sample_warmups(backbone, encoded.detach().select(chosen), most, limit, noise.select(chosen))
    spread = torch.zeros(batch, most, dtype=torch.long)
    rows = spread.index_put((inputs,), torch.arange(len(inputs))[:, None].expand(-1, most))
    columns = torch.arange(most).expand(batch, most)
    present = torch.cat([torch.ones(batch, few, dtype=torch.bool), columns < extra[:, None]], dim=1)
    weight = torch.where(present, -present.sum(-1, keepdim=True).double().log(), float("-inf"))
    placed = Warmups(
        more.tokens[rows, columns], more.lengths[rows, columns], more.forced[rows, columns], even_weights(batch, most)
    )
    warmups = beside([first, placed], weight)
    return warmups, read_warmups(backbone, encoded, warmups, labels, dropout, read)


def _resample(
    backbone: Backbone, method: WarmupMethod, encoded: Encoded, labels: Tensor, noise: Noise, draw: Draw
) -> Step:
    """Posterior resampling: the K are scored without gradient or dropout, and one of them is learnt from.

    The baseline is sampled too: a second warmup, without its target, whose gradient is subtracted.
    """
    warmups = draw(backbone, method, encoded, noise)
    weight = warmups.log_prior_weight.to(encoded.ids.device)
    with torch.no_grad(), dropout_off(backbone.family.reader(backbone.model)):
        totals = score_read(backbone, read_warmups(backbone, encoded.detach(), warmups, labels), targets_only=True)
    weights = posterior_weights(totals.target_logprob, weight, method.posterior_temperature)
    compared = baseline_weights(totals.target_logprob, weight, method.baseline, method.posterior_temperature)
    chosen, other, factor = resampled(weights, compared, noise.uniform(2))
    likelihood = log_likelihood(totals.target_logprob, weight)

    def of_chosen(found: Totals, inputs: slice) -> Tensor:
        joint = (found.target_logprob + found.warmup_logprob).squeeze(-1)
        bonus = 0.0 if compares else method.entropy_coef * found.warmup_entropy.squeeze(-1)
        return joint.detach() - likelihood[inputs] - joint - bonus

    def of_other(found: Totals, inputs: slice) -> Tensor:
        logprob = found.warmup_logprob.squeeze(-1)
        scaled = factor[inputs] * (logprob - logprob.detach())
        return scaled - method.entropy_coef * found.warmup_entropy.squeeze(-1)

    compares = method.baseline != "none"
    last = warmups.select(chosen.cpu()[:, None])
    value, found = weigh_read(backbone, read_warmups(backbone, encoded, last, labels), of_chosen)
    if compares:
        without_target = torch.full_like(labels, IGNORED_LABEL)
        last = warmups.select(other.cpu()[:, None])
        read = read_warmups(backbone, encoded, last, without_target)
        part, found = weigh_read(backbone, read, of_other)
        value = value + part
    return Step(value, warmups, totals.target_logprob, weight, last, found.warmup_entropy)
