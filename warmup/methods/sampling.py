"""Drawing warmups from the model's own distribution p(c|x), or from a proposal made of it.

A warmup token is drawn from the model's softmax over ordinary tokens and the separator, sharpened as the backbone says.
A warmup ends when the separator is drawn; after `max_warmup_tokens` tokens nothing is drawn, the separator is forced,
and that choice counts nowhere. So the probabilities of all warmups sum to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from warmup.methods.noise import Noise, invert
from warmup.models.backbone import Backbone, never_in_warmups
from warmup.models.families import Encoded
from warmup.models.sharpening import Sharpening, outside_nucleus

SAME_LENGTH = 64  # source lengths are rounded up to a multiple of this, so that few shapes have to be recorded
NEVER = -1e9  # instead of -inf, whose product with a zero probability is NaN


@dataclass(frozen=True)
class Proposal:
    """The distribution q that warmup tokens are drawn from: p(c|x) at another temperature, cut to a nucleus.

    A nucleus (`top_p` below 1) never draws what lies outside it: the estimate is then of the sum over the nucleus, a
    lower bound on p(y|x).
    """

    temperature: float = 1.0
    top_p: float = 1.0

    @property
    def is_model(self) -> bool:
        """Whether q is p(c|x) itself."""
        return self.temperature == self.top_p == 1.0

    def logprob(self, logprob: Tensor) -> Tensor:
        """[N, V] log q of the next tokens, from log p: cut to the fewest tokens that hold `top_p` of it."""
        if self.is_model:
            return logprob
        warmed = (logprob / self.temperature).log_softmax(-1)
        if self.top_p == 1.0:
            return warmed
        return warmed.masked_fill(outside_nucleus(warmed, self.top_p), NEVER).log_softmax(-1)


@dataclass(frozen=True)
class Warmups:
    """K warmups of each of B inputs; M is the length limit. Kept in main memory, where their layout is decided."""

    tokens: Tensor  # [B, K, M], the warmup's own tokens, then padding
    lengths: Tensor  # [B, K], without the separator
    forced: Tensor  # [B, K], true where the limit was reached before a separator was drawn
    # [B, K] log of what each warmup stands for, so that p(y|x) is estimated by sum_k exp(log_prior_weight_k + l_k).
    # 1/K for draws from p(c|x) itself, p(c|x) / (K q(c)) for draws from a proposal q; 0 (-inf) for a slot left empty.
    log_prior_weight: Tensor
    logprob: Tensor | None = None  # [B, K] log p(c|x) as it was drawn, where the sampler tells

    @property
    def count(self) -> int:
        """K."""
        return self.tokens.shape[1]

    def select(self, columns: Tensor, inputs: Tensor | None = None) -> Warmups:
        """Some warmups [B', K'] of all inputs, or of `inputs` [B'], by index; each then stands for 1/K'."""
        rows = (torch.arange(len(columns)) if inputs is None else inputs)[:, None]
        weight = even_weights(*columns.shape)
        return Warmups(self.tokens[rows, columns], self.lengths[rows, columns], self.forced[rows, columns], weight)


def even_weights(batch: int, count: int) -> Tensor:
    """[B, K] log 1/K."""
    return torch.full((batch, count), -math.log(count), dtype=torch.float64)


def as_written(rows: Sequence[Sequence[list[int]]], limit: int, padding_id: int) -> Warmups:
    """Warmups [B, K] that are there already, as token ids without a separator; each stands for 1/K."""
    tokens = torch.tensor([[ids + [padding_id] * (limit - len(ids)) for ids in row] for row in rows])
    lengths = torch.tensor([[len(ids) for ids in row] for row in rows])
    return Warmups(tokens, lengths, lengths == limit, even_weights(*lengths.shape))


def beside(parts: Sequence[Warmups], log_prior_weight: Tensor) -> Warmups:
    """The warmups of each input, one part after another."""
    return Warmups(
        torch.cat([part.tokens for part in parts], dim=1),
        torch.cat([part.lengths for part in parts], dim=1),
        torch.cat([part.forced for part in parts], dim=1),
        log_prior_weight,
    )


def warmup_logits(logits: Tensor, never_in_warmup: Tensor, sharpening: Sharpening) -> Tensor:
    """Logits [..., V], sharpened, with what no warmup may hold ruled out, in float32 at least."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if sharpening.temperature != 1:
        wide = wide / sharpening.temperature
    allowed = wide.masked_fill(never_in_warmup, NEVER)
    return allowed if sharpening.top_p == 1 else allowed.masked_fill_(sharpening.outside(allowed), NEVER)


@torch.no_grad()
def sample_warmups(
    backbone: Backbone,
    encoded: Encoded,
    num_samples: int,
    max_warmup_tokens: int,
    noise: Noise,
    proposal: Proposal = Proposal(),
) -> Warmups:
    """Draw `num_samples` independent warmups per input, each source read once.

    With a proposal q that is not the model, `log_prior_weight` is log p(c|x) - log q(c) - log K. The caller switches
    dropout off, so that what is drawn from is what is scored.
    """
    settings = (num_samples, max_warmup_tokens, proposal)
    uniform = noise.uniform(num_samples, max_warmup_tokens).flatten(0, 1)
    parts = run_loop(backbone, encoded, _draw_all, settings, uniform)
    return Warmups(*(part.cpu() for part in parts))


def _draw_all(
    backbone: Backbone,
    settings: tuple[int, int, Proposal],
    may_ask: bool,
    never: Tensor,
    uniform: Tensor,
    encoded: Encoded,
) -> tuple[Tensor, ...]:
    """Tokens [B, K, M]; lengths, whether the separator was forced and weights [B, K]. `uniform` is [B * K, M]."""
    num_samples, limit, proposal = settings
    model, family, batch = backbone.model, backbone.family, len(encoded.ids)
    logits, state = family.prefill(model, encoded, num_samples, limit)
    logits = logits.repeat_interleave(num_samples, dim=0)
    if never.dim() == 2:
        never = never.repeat_interleave(num_samples, dim=0)
    ended = torch.zeros_like(uniform[:, 0], dtype=torch.bool)
    lengths = torch.zeros_like(ended, dtype=torch.long)
    own, proposed = torch.zeros_like(uniform[:, 0]), torch.zeros_like(uniform[:, 0])
    columns: list[Tensor] = []
    for position in range(limit):
        logprob = warmup_logits(logits, never, backbone.sharpening).log_softmax(-1)
        of_proposal = proposal.logprob(logprob)
        drawn = invert(of_proposal.double().exp(), uniform[:, position])
        if not proposal.is_model:
            own = own + torch.where(ended, 0.0, _at(logprob, drawn))
            proposed = proposed + torch.where(ended, 0.0, _at(of_proposal, drawn))
        ended = ended | (drawn == backbone.separator_id)
        lengths = lengths + ~ended
        columns.append(torch.where(ended, backbone.tokenizer.pad_token_id, drawn))
        if position + 1 == limit or (may_ask and bool(ended.all())):
            break
        logits = family.step(model, state, columns[-1])
    padding = torch.full_like(lengths, backbone.tokenizer.pad_token_id)
    columns += [padding] * (limit - len(columns))
    tokens = torch.stack(columns, dim=-1).view(batch, num_samples, limit)
    weight = own - proposed - math.log(num_samples)
    return tokens, *(part.view(batch, num_samples) for part in (lengths, ~ended, weight))


def run_loop(
    backbone: Backbone, encoded: Encoded, loop: Callable[..., tuple[Tensor, ...]], settings: Any, numbers: Tensor
) -> tuple[Tensor, ...]:
    """A loop that continues sources which are read already: a CUDA graph on CUDA, if the loop can be one.

    It is called with the backbone, `settings`, whether it may look at a value to stop early, the tokens that no warmup
    may hold, `numbers` [B or B * K, ...] and the sources.
    """
    model, device = backbone.model, encoded.ids.device
    encoded = encoded.detach()
    if encoded.states is None:  # they were not read: with gradient checkpointing Llama's are not
        encoded = backbone.family.encode(model, encoded.ids, encoded.mask)
    never = never_in_warmups(backbone, encoded)
    if not backbone.recordings.records(model, device):
        may_ask = device.type == "cpu"  # elsewhere asking would wait for the device
        return loop(backbone, settings, may_ask, never, numbers, encoded)

    def on_tensors(never: Tensor, numbers: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
        return loop(backbone, settings, False, never, numbers, Encoded.from_parts(*sources))

    inputs = (never, numbers, *encoded.padded(SAME_LENGTH).parts())
    return backbone.recordings.run(model, on_tensors, inputs, (loop, settings, backbone.sharpening))


def _at(logprob: Tensor, tokens: Tensor) -> Tensor:
    return logprob.gather(-1, tokens[:, None]).squeeze(-1).double()
