"""Drawing warmups from the model's own distribution p(c|x).

A warmup token is drawn from the model's softmax over ordinary tokens and the separator. A warmup ends when the
separator is drawn; behind `max_warmup_tokens` tokens nothing is drawn, the separator is forced, and that choice
counts nowhere. So the probabilities of all warmups sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.models.families import Encoded
from warmup.models.loading import Backbone

NEVER = -1e9  # instead of -inf, whose product with a zero probability is NaN in the gradient of the entropy


@dataclass(frozen=True)
class Warmups:
    """K warmups of each of B inputs; M is the length limit."""

    tokens: Tensor  # [B, K, M], the warmup's own tokens, padding behind
    lengths: Tensor  # [B, K], without the separator
    forced: Tensor  # [B, K], true where the limit was reached before a separator was drawn

    def split(self, size: int) -> list[Warmups]:
        """Parts of at most `size` warmups of each input."""
        parts = (values.split(size, dim=1) for values in (self.tokens, self.lengths, self.forced))
        return [Warmups(*part) for part in zip(*parts, strict=True)]


def warmup_logits(logits: Tensor, never_in_warmup: Tensor) -> Tensor:
    """Logits [..., V] with what no warmup may hold ruled out, in float32 at least."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.masked_fill(never_in_warmup, NEVER)


@torch.no_grad()
def sample_warmups(backbone: Backbone, encoded: Encoded, num_samples: int, max_warmup_tokens: int) -> Warmups:
    """Draw `num_samples` warmups per input by ancestral sampling, each source read once.

    The caller switches dropout off, so that what is drawn from is what is scored.
    """
    model, family = backbone.model, backbone.family
    never = backbone.never_in_warmup.to(encoded.ids.device)
    batch = encoded.ids.shape[0]
    logits, state = family.prefill(model, encoded.detach(), num_samples)
    ended = torch.zeros(batch * num_samples, dtype=torch.bool, device=encoded.ids.device)
    lengths = torch.zeros_like(ended, dtype=torch.long)
    columns: list[Tensor] = []
    for position in range(max_warmup_tokens):
        drawn = torch.multinomial(warmup_logits(logits, never).softmax(-1), 1).squeeze(-1)
        ended = ended | (drawn == backbone.separator_id)
        if bool(ended.all()):
            break
        drawn = torch.where(ended, backbone.tokenizer.pad_token_id, drawn)
        lengths = lengths + ~ended
        columns.append(drawn)
        if position + 1 < max_warmup_tokens:
            logits = family.step(model, state, drawn)
    padding = torch.full_like(lengths, backbone.tokenizer.pad_token_id)
    columns += [padding] * (max_warmup_tokens - len(columns))
    tokens = torch.stack(columns, dim=-1).view(batch, num_samples, max_warmup_tokens)
    return Warmups(tokens, lengths.view(batch, num_samples), ~ended.view(batch, num_samples))
