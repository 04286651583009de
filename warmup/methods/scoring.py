"""Log-probabilities of warmups and targets under the model, with gradient.

A continuation is `c_1 .. c_m <sep> y_1 .. y_n </s>`. Shapes: B inputs, K continuations of each, L tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from warmup.methods.sampling import Warmups, warmup_logits
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.families import Encoded
from warmup.models.loading import Backbone

MOST_IN_A_ROW = 32  # continuations that share a row: the attention mask grows with the square of their tokens


@dataclass(frozen=True)
class Scores:
    """What the objective needs, float32 at least."""

    target_logprob: Tensor  # [B, K]
    warmup_logprob: Tensor  # [B, K]; separators that were drawn count, forced ones do not
    warmup_entropy: Tensor  # [B, K] entropies of the distributions that warmup tokens were drawn from, summed
    warmup_positions: Tensor  # [B, K] how many such distributions: tokens, and the separator if it was drawn


@dataclass(frozen=True)
class Continuations:
    """Warmups joined with their targets, all [B, K, L]."""

    tokens: Tensor
    mask: Tensor  # true where there is a token
    warmup_part: Tensor  # true where a token was drawn by the sampler
    target_part: Tensor  # true on target tokens and </s>


def join(warmups: Warmups, labels: Tensor, separator_id: int, padding_id: int) -> Continuations:
    """Write each target [B, T] (labels padded with -100) behind each of its input's warmups, without gaps."""
    batch, count, limit = warmups.tokens.shape
    lengths = warmups.lengths[..., None]
    target_lengths = (labels != IGNORED_LABEL).sum(-1)[:, None, None]
    width = int((lengths + 1 + target_lengths).max())
    place = torch.arange(width, device=labels.device).expand(batch, count, width)
    in_warmup = place < lengths
    at_separator = place == lengths
    in_target = (place > lengths) & (place <= lengths + target_lengths)
    from_warmup = warmups.tokens.gather(-1, place.clamp(max=limit - 1))
    targets = labels[:, None].expand(batch, count, -1)
    from_target = targets.gather(-1, (place - lengths - 1).clamp(0, labels.shape[1] - 1))
    tokens = torch.where(in_warmup, from_warmup, torch.where(in_target, from_target, padding_id))
    tokens = torch.where(at_separator, separator_id, tokens)
    drawn = in_warmup | (at_separator & ~warmups.forced[..., None])
    return Continuations(tokens, in_warmup | at_separator | in_target, drawn, in_target)


def score_warmups(backbone: Backbone, encoded: Encoded, warmups: Warmups, labels: Tensor) -> Scores:
    """Score every warmup of every input, and the target behind it."""
    if warmups.tokens.shape[1] > MOST_IN_A_ROW:
        parts = [score_warmups(backbone, encoded, part, labels) for part in warmups.split(MOST_IN_A_ROW)]
        return Scores(
            *(torch.cat(values, dim=1) for values in zip(*(vars(part).values() for part in parts), strict=True))
        )
    rows = join(warmups, labels, backbone.separator_id, backbone.tokenizer.pad_token_id)
    logits = backbone.family.logits(backbone.model, encoded, rows.tokens, rows.mask)
    target = token_logprob(logits[rows.target_part], rows.tokens[rows.target_part])
    # full distributions are made only where a warmup token was drawn: they are as wide as the vocabulary
    drawn = warmup_logits(logits[rows.warmup_part], backbone.never_in_warmup.to(logits.device)).log_softmax(-1)
    warmup = drawn.gather(-1, rows.tokens[rows.warmup_part][:, None]).squeeze(-1)
    entropy = -(drawn.exp() * drawn).sum(-1)
    return Scores(
        target_logprob=_totals(target, rows.target_part),
        warmup_logprob=_totals(warmup, rows.warmup_part),
        warmup_entropy=_totals(entropy, rows.warmup_part),
        warmup_positions=rows.warmup_part.sum(-1),
    )


def _totals(values: Tensor, where: Tensor) -> Tensor:
    """[B, K] sums of `values`, which belong to the true places of `where` [B, K, L]."""
    spread = torch.zeros(where.shape, dtype=values.dtype, device=values.device)
    return spread.masked_scatter(where, values).sum(-1)


def score_targets(backbone: Backbone, encoded: Encoded, labels: Tensor) -> Tensor:
    """[B] log p(y|x) of targets written straight behind their sources, as SFT trains them."""
    present = labels != IGNORED_LABEL
    tokens = labels.masked_fill(~present, backbone.tokenizer.pad_token_id)
    logits = backbone.family.logits(backbone.model, encoded, tokens[:, None], present[:, None])
    logprob = token_logprob(logits[:, 0], tokens)
    return torch.where(present, logprob, torch.zeros_like(logprob)).sum(-1)


def token_logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token [...] under logits [..., V], float32 at least."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -cross_entropy(wide.flatten(0, -2), tokens.flatten(), reduction="none").view(tokens.shape)
