"""Stochastic beam search: K different warmups, a sample without replacement from p(c|x).

Kool, van Hoof and Welling (2019), "Stochastic Beams and Where to Find Them". Every warmup has a perturbed
log-probability, log p(c|x) plus a Gumbel variable; the K largest are such a sample. A beam of prefixes finds them,
since a prefix's perturbed value is the largest of those that continue it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from warmup.methods.noise import Noise
from warmup.methods.sampling import NEVER, Warmups, run_loop, warmup_logits
from warmup.models.backbone import Backbone
from warmup.models.families import Encoded

IMPOSSIBLE = float("-inf")  # the log-probability of no warmup


@torch.no_grad()
def sample_without_replacement(
    backbone: Backbone, encoded: Encoded, num_samples: int, max_warmup_tokens: int, noise: Noise
) -> Warmups:
    """The K warmups of the largest perturbed log-probability, with their weights (Kool et al., equation 12).

    The beam is one wider than K: the perturbed value that comes next is the threshold kappa, and each warmup stands
    for p(c) / P(its perturbed value exceeds kappa), so that sum_k exp(log_prior_weight_k) f(c_k) is unbiased. Where
    there are no more than K warmups at all, all of them are returned with their exact probabilities.
    """
    settings = (num_samples, max_warmup_tokens, noise.drawn)
    parts = run_loop(backbone, encoded, _beam_search, settings, noise.seeds)
    noise.drawn += 1 + max_warmup_tokens * (num_samples + 1) * len(backbone.never_in_warmup)
    return Warmups(*(part.cpu() for part in parts))


def _beam_search(
    backbone: Backbone,
    settings: tuple[int, int, int],
    may_ask: bool,
    never: Tensor,
    seeds: Tensor,
    encoded: Encoded,
) -> tuple[Tensor, ...]:
    """Tokens [B, K, M]; lengths, whether the separator was forced, weights and log-probabilities [B, K]."""
    num_samples, limit, already_drawn = settings
    noise = Noise(seeds, already_drawn)
    batch, width, device = len(encoded.ids), num_samples + 1, encoded.ids.device
    model, family = backbone.model, backbone.family
    pad, separator = backbone.tokenizer.pad_token_id, backbone.separator_id
    logits, state = family.prefill(model, encoded, width, limit)
    logits = logits.repeat_interleave(width, dim=0)
    never = never.expand(batch, -1).repeat_interleave(width, dim=0)
    # all but one of the first beams are empty, so that each prefix is there once
    logprob = torch.full((batch, width), IMPOSSIBLE, dtype=torch.float64, device=device)
    logprob[:, 0].zero_()
    perturbed = logprob.clone()
    perturbed[:, :1] = noise.gumbel(1)  # not 0 as in their algorithm 1: the weights need unconditional Gumbels
    tokens = torch.full((batch, width, limit), pad, device=device)
    lengths = torch.zeros(batch, width, dtype=torch.long, device=device)
    ended = torch.zeros(batch, width, dtype=torch.bool, device=device)
    for position in range(limit):
        step = warmup_logits(logits, never, backbone.sharpening).log_softmax(-1).double().view(batch, width, -1)
        cannot = (step < NEVER / 2) | ended[..., None]
        children = (logprob[..., None] + step).masked_fill(cannot, IMPOSSIBLE)
        values = _perturb(children, perturbed, noise)
        # a warmup that has ended goes on as itself, in the place of its padding token
        children[..., pad] = torch.where(ended, logprob, children[..., pad])
        values[..., pad] = torch.where(ended, perturbed, values[..., pad])
        perturbed, chosen = values.flatten(1).topk(width, dim=-1)
        beam, token = chosen // step.shape[-1], chosen % step.shape[-1]
        logprob = children.flatten(1).gather(1, chosen)
        tokens = tokens.gather(1, beam[..., None].expand_as(tokens))
        was_ended, lengths = ended.gather(1, beam), lengths.gather(1, beam)
        ended = was_ended | (token == separator)
        tokens[..., position] = torch.where(ended, pad, token)
        lengths = lengths + ~ended
        if position + 1 == limit or (may_ask and bool(ended.all())):
            break
        rows = (beam + width * torch.arange(batch, device=device)[:, None]).flatten()
        logits = family.step(model, family.reorder(state, rows), tokens[..., position].flatten())
    weight = _prior_weight(logprob[:, :num_samples], perturbed[:, num_samples:])
    kept = (tokens, lengths, ~ended, weight, logprob)
    return tuple(part[:, :num_samples] for part in kept)


def _perturb(logprob: Tensor, largest: Tensor, noise: Noise) -> Tensor:
    """[B, W, V] Gumbel-perturbed log-probabilities of each prefix's continuations, whose largest is `largest` [B, W].

    Kool et al., section 3.3 and appendix B.3 (the numerically stable form).
    """
    values = logprob + noise.gumbel(*logprob.shape[1:])
    top = values.amax(-1, keepdim=True)
    bound = largest[..., None]
    gap = bound - values + torch.log1p(-torch.exp(values - top))
    shifted = bound - gap.clamp(min=0) - torch.log1p(torch.exp(-gap.abs()))
    return torch.where(logprob == IMPOSSIBLE, IMPOSSIBLE, shifted)


def _prior_weight(logprob: Tensor, threshold: Tensor) -> Tensor:
    """log p(c) - log P(perturbed log p(c) > threshold); the threshold is -inf where there was nothing more to draw."""
    excess = torch.exp(logprob - threshold)
    inclusion = torch.where(threshold == IMPOSSIBLE, 0.0, torch.log(-torch.expm1(-excess)))
    # far below the threshold 1 - exp(-x) is x
    inclusion = torch.where(excess < 1e-12, logprob - threshold, inclusion)
    return torch.where(logprob == IMPOSSIBLE, IMPOSSIBLE, logprob - inclusion)
