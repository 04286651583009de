"""How warmups are distributed: the model's own p(c|x) at a temperature, cut to a nucleus and renormalised.

Sampling, scoring, entropy and decoding all read it from the backbone, so nothing has to be made up for by weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from warmup.config.schema import WarmupMethod

MOST_SORTED = 2**22  # logits at a time: sorting takes several times their memory


@dataclass(frozen=True)
class Sharpening:
    """p(c_t|.) is softmax(logits / temperature), cut to the fewest tokens that hold `top_p` of it, and renormalised.

    The nucleus is that of Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration". Of tokens as likely
    as one another at the cut, those of lower ids are inside. In gradients the nucleus is a constant.

    With a `vocabulary` the softmax is over the tokens of that text alone, in which `{source}` stands for the tokens of
    an input's own source: warmups then quote.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    vocabulary: str | None = None

    @classmethod
    def of_method(cls, method: WarmupMethod) -> Sharpening:
        """As `method` has it."""
        return cls(method.warmup_temperature, method.warmup_top_p, method.warmup_vocabulary)

    @property
    def is_plain(self) -> bool:
        """Whether p(c_t|.) is the softmax of the logits themselves, over what they allow."""
        return self.temperature == self.top_p == 1.0

    def outside(self, logits: Tensor, drawn: Tensor | None = None) -> Tensor:
        """[N, V] true for tokens beyond the nucleus of logits [N, V] that were divided by the temperature.

        `drawn` [N] counts as inside: a token that was drawn near the cut, of logits that other kernels or another
        dropout rounded otherwise, would else have the probability 0. The distribution that it is scored under is then
        the nucleus and it, renormalised.
        """
        rows = max(1, MOST_SORTED // logits.shape[-1])
        parts = [outside_nucleus(part.log_softmax(-1), self.top_p) for part in logits.split(rows)]
        outside = torch.cat(parts)
        return outside if drawn is None else outside.scatter_(-1, drawn[:, None], False)


def outside_nucleus(logprob: Tensor, top_p: float) -> Tensor:
    """[N, V] false for the fewest tokens that hold `top_p` of the probability, from log-probabilities [N, V]."""
    ordered, order = logprob.sort(dim=-1, descending=True, stable=True)
    share = ordered.exp()
    before = share.cumsum(-1) - share
    return torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)


class Allowed(LogitsProcessor):
    """For `model.generate`: of each input's rows, those tokens alone that its warmup may hold."""

    def __init__(self, never: Tensor) -> None:
        self.never = never

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[N, V] scores with the others at -inf; N is the number of inputs times that of beams."""
        beams = len(scores) // len(self.never)
        return scores.masked_fill(self.never.repeat_interleave(beams, dim=0), float("-inf"))


class SharpenedBeams(LogitsProcessor):
    """For `model.generate`, which knows no temperature in beam search: beams then add up log p(c|x).

    It comes after `suppress_tokens`, whose logits are -inf.
    """

    def __init__(self, sharpening: Sharpening) -> None:
        self.sharpening = sharpening

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[N, V] log p of the next tokens, from logits or log-probabilities; -inf for those that cannot follow."""
        warmed = scores / self.sharpening.temperature
        if self.sharpening.top_p < 1:
            warmed = warmed.masked_fill(self.sharpening.outside(warmed), float("-inf"))
        return warmed.log_softmax(-1)
