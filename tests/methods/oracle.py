"""What a step must give, from the formulas of docs/method.md alone: no code of `warmup/methods` computes anything here.

Plain Hugging Face forwards, one per input (padding stands last, so nothing needs a mask), whole log-softmax,
coefficients in Python numbers, and autograd through a surrogate that is written out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.methods.sampling import Warmups
from warmup.models.backbone import Backbone


@dataclass(frozen=True)
class Scores:
    """Of each of K warmups of B inputs, [B, K], with gradient; and what its tokens were drawn from."""

    target_logprob: Tensor
    warmup_logprob: Tensor
    warmup_entropy: Tensor
    drawn_from: list[list[Tensor]]  # [tokens drawn, allowed words] log-probabilities


def sources_of(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """Token rows without their padding."""
    return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]


def recognition_sources(backbone: Backbone, sources: list[list[int]], labels: Tensor) -> list[list[int]]:
    """What the proposal q(c|x,y) reads: the target without `</s>`, a separator, the source."""
    targets = [label[label >= 0].tolist() for label in labels]
    return [[*y[:-1], backbone.separator_id, *x] for x, y in zip(sources, targets, strict=True)]


def score(backbone: Backbone, sources: list[list[int]], warmups: Warmups, labels: Tensor) -> Scores:
    """log p(y|x,c), log p(c|x) and the entropy along each warmup, each by the model's own forward."""
    found = [
        _score_input(backbone, source, tokens, lengths, forced, label[label >= 0].tolist())
        for source, tokens, lengths, forced, label in zip(
            sources, warmups.tokens.tolist(), warmups.lengths.tolist(), warmups.forced.tolist(), labels, strict=True
        )
    ]
    sums = [torch.stack([torch.stack(row[part]) for row in found]) for part in range(3)]
    return Scores(*sums, drawn_from=[row[3] for row in found])


def _score_input(
    backbone: Backbone,
    source: list[int],
    tokens: list[list[int]],
    lengths: list[int],
    forced: list[bool],
    target: list[int],
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    between = [backbone.separator_id, *backbone.before_target] if target else [backbone.separator_id]
    rows = [[*row[:length], *between, *target] for row, length in zip(tokens, lengths, strict=True)]
    logits = _logits(backbone, source, rows)
    allowed = (~backbone.never_in_warmup).nonzero().flatten().tolist()
    if backbone.sharpening.vocabulary == "{source}":
        allowed = [token for token in allowed if token in source or token == backbone.separator_id]
    place = {token: number for number, token in enumerate(allowed)}  # an empty slot may hold others: it weighs nothing
    targets, warmups, entropies, drawn_from = [], [], [], []
    for row, length, cut, predicted in zip(rows, lengths, forced, logits, strict=True):
        rest = list(range(length + len(between), len(row)))
        targets.append(predicted.log_softmax(-1)[rest, row[length + len(between) :]].sum())
        drawn = length + (not cut)
        spread = sharpened(predicted[:drawn][:, allowed], backbone.sharpening.temperature, backbone.sharpening.top_p)
        warmups.append(spread[list(range(drawn)), [place.get(token, 0) for token in row[:drawn]]].sum())
        entropies.append(-(spread.exp() * spread.masked_fill(spread == -math.inf, 0.0)).sum())
        drawn_from.append(spread.detach())
    return targets, warmups, entropies, drawn_from


def sharpened(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """[N, words] log p of the next token: the softmax at a temperature, cut to the nucleus, token by token."""
    warmed = (logits / temperature).log_softmax(-1)
    kept = torch.zeros_like(warmed, dtype=torch.bool)
    for number, row in enumerate(warmed.tolist()):
        held = 0.0
        for index in sorted(range(len(row)), key=lambda index: (-row[index], index)):
            if held >= top_p:
                break
            kept[number, index] = True
            held += math.exp(row[index])
    return warmed - warmed.masked_fill(~kept, -math.inf).logsumexp(-1, keepdim=True) + torch.where(kept, 0.0, -math.inf)


def _logits(backbone: Backbone, source: list[int], rows: list[list[int]]) -> Tensor:
    """[K, L, V] what predicts each token of the rows after one source."""
    longest = max(map(len, rows))
    written = torch.tensor([row + [backbone.tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    read = torch.tensor([source] * len(rows))
    if backbone.model.config.is_encoder_decoder:
        return backbone.model(input_ids=read, labels=written, use_cache=False).logits
    logits = backbone.model(input_ids=torch.cat([read, written], dim=1), use_cache=False).logits
    return logits[:, len(source) - 1 : -1]


def softmax(values: list[float], shares: list[float]) -> list[float]:
    """shares_k exp(values_k), normalised."""
    most = max(values)
    parts = [share * math.exp(value - most) for share, value in zip(shares, values, strict=True)]
    return [part / sum(parts) for part in parts]


def log_mean_exp(values: list[float], shares: list[float]) -> float:
    """log sum_k shares_k exp(values_k)."""
    most = max(values)
    return most + math.log(sum(share * math.exp(value - most) for share, value in zip(shares, values, strict=True)))


def mean_of_others(values: list[float], shares: list[float], own: int) -> float:
    others = [(share, value) for k, (share, value) in enumerate(zip(shares, values, strict=True)) if k != own]
    return sum(share * value for share, value in others) / sum(share for share, _ in others)


def coefficients(
    method: WarmupMethod, target_logprob: list[float], shares: list[float]
) -> tuple[list[float], list[float], float]:
    """What grad l_k and grad s_k are multiplied with, and the objective's value; `shares` are the prior weights v_k."""
    count, prior = len(shares), [share / sum(shares) for share in shares]
    replaced = [
        [*target_logprob[:k], mean_of_others(target_logprob, shares, k), *target_logprob[k + 1 :]] if count > 1 else []
        for k in range(count)
    ]
    value = log_mean_exp(target_logprob, shares)
    if method.objective == "elbo":
        signal = [prior[k] * (target_logprob[k] - replaced[k][k]) if count > 1 else 0.0 for k in range(count)]
        return prior, signal, sum(p * one for p, one in zip(prior, target_logprob, strict=True))
    if method.objective == "vimco":
        signal = [value - log_mean_exp(replaced[k], shares) if count > 1 else 0.0 for k in range(count)]
        return softmax(target_logprob, shares), signal, value
    heat = method.posterior_temperature
    weights = softmax([one / heat for one in target_logprob], shares)
    baseline = {"mean": prior, "none": [0.0] * count}.get(method.baseline)
    if baseline is None:
        baseline = [softmax([one / heat for one in replaced[k]], shares)[k] if count > 1 else 1.0 for k in range(count)]
    return weights, [w - b for w, b in zip(weights, baseline, strict=True)], value


def loss(method: WarmupMethod, scores: Scores, log_prior_weight: Tensor, proposed: Tensor | None = None) -> Tensor:
    """The sum over the batch: -value, with the gradient of the coefficients, less the entropy bonus.

    `log_prior_weight` is float64; a slot of weight 0 holds no warmup. `proposed` [B, K]: log q(c|x,y), if q learns too.
    """
    total = torch.zeros((), dtype=torch.float64)
    for row, weight in enumerate(log_prior_weight):
        there = [k for k, value in enumerate(weight.tolist()) if value > -math.inf]
        target, warmup, entropy = (
            part[row, there] for part in (scores.target_logprob, scores.warmup_logprob, scores.warmup_entropy)
        )
        shares = weight[there].exp().tolist()
        of_target, of_warmup, value = coefficients(method, target.tolist(), shares)
        learnt = (target * weight.new_tensor(of_target)).sum() + (warmup * weight.new_tensor(of_warmup)).sum()
        if proposed is not None:
            learnt = learnt + (proposed[row, there] * weight.new_tensor(of_target)).sum()
        bonus = method.entropy_coef * (entropy * weight.new_tensor(shares)).sum() / sum(shares)
        total = total - value - (learnt - learnt.detach()) - bonus
    return total
