"""The output layer at chosen positions, in chunks: logits [tokens, vocabulary] never exist whole.

Recomputing chunks in the backward pass would cost a fourth matrix product where plain backpropagation has three. It is
not needed: a loss that is a sum over inputs can be differentiated input by input. Once all positions of an input have
passed, its loss and the gradient with respect to its logits are known, and are used up before the next input's logits
are made. (Liger kernels fuse cross-entropy in this way; here the loss is any function of an input's log-probabilities.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from warmup.methods.sampling import NEVER
from warmup.models.sharpening import Sharpening

MOST_LOGITS = 2**26  # that are made at a time: 256 MB in float32
KEPT_CHUNKS = 2  # so many of them may stay for the backward pass, where one input alone fills more than one


@dataclass(frozen=True)
class Positions:
    """N positions of G sequences, in the order of their inputs; each sequence belongs to one of B inputs.

    Within an input, positions that were drawn as part of a warmup come first.
    """

    tokens: Tensor  # [N] the token to be predicted
    sequences: Tensor  # [N] which sequence, 0 to G - 1
    drawn_per_input: list[int]  # B counts of positions that the sampler drew
    per_input: list[int]  # B counts of all positions
    sequences_per_input: int  # G / B


@dataclass(frozen=True)
class Totals:
    """Sums over a sequence's positions, [G / B] of each of some inputs; float32 at least."""

    target_logprob: Tensor
    warmup_logprob: Tensor
    warmup_entropy: Tensor  # of the distributions that warmup tokens were drawn from, in nats


@dataclass(frozen=True)
class OutputLayer:
    """What makes logits of states."""

    weight: Tensor  # [V, W]
    bias: Tensor | None  # [V]; like the weight, it gets its gradient if it wants one
    forbidden: Tensor  # [V] or [B, V] true for tokens that cannot be drawn into a warmup
    sharpening: Sharpening = Sharpening()  # of what warmup tokens were drawn from


Loss = Callable[[Totals, slice], Tensor]  # totals [b, G / B] of some inputs, which ones -> their losses [b]


def weigh(
    states: Tensor, layer: OutputLayer, positions: Positions, loss: Loss, smoothing: float = 0.0
) -> tuple[Tensor, Totals]:
    """The sum of all inputs' losses, differentiable, and the totals [B, G / B] without gradient.

    Args:
        states: [N, W] what the output layer reads at each position.
        loss: is called with the totals of a few inputs at a time, which require gradients.
        smoothing: e of label smoothing (Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4). Each target
            position adds e (log p(token) - mean_j log p(j)), j over all V rows of the layer, which makes a loss of
            -log p(token) the cross-entropy with (1 - e) 1[j = token] + e / V. The normaliser cancels out of it.
    """
    record: list[Totals] = []
    weighing = _Weighing(_Chunks(states, layer, positions, smoothing), loss, record)
    value = _Weighed.apply(states, layer.weight, layer.bias, weighing)
    return value, _joined(record)


@torch.no_grad()
def totals_of(states: Tensor, layer: OutputLayer, positions: Positions) -> Totals:
    """The totals [B, G / B] alone."""
    chunks = _Chunks(states, layer, positions)
    return _joined([chunks.read(group, keep=False)[0] for group in chunks.groups()])


class _Weighed(torch.autograd.Function):
    """Computes the gradient in the forward pass, while the logits are there."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, weighing: _Weighing) -> Tensor:
        chunks = weighing.chunks
        leaves = zip((states, weight, bias), ctx.needs_input_grad, strict=False)
        sums = [torch.zeros_like(leaf) if leaf is not None and wanted else None for leaf, wanted in leaves]
        value = torch.zeros((), dtype=chunks.wide, device=states.device)
        for group in chunks.groups():
            totals, kept = chunks.read(group)
            weighing.record.append(totals)
            slopes, part = _slopes(totals, weighing.loss, slice(group.first_input, group.last_input))
            value += part
            for chunk in kept:
                if chunk.smoothing_loss is not None:
                    value += chunk.smoothing_loss
            if any(part is not None for part in sums):
                chunks.backward(group, kept, slopes, *sums)
        ctx.gradients = sums
        return value

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = tuple(None if part is None else part.mul_(scale) for part in ctx.gradients)
        del ctx.gradients  # scaled in place: a second pass must fail, not be wrong
        return (*gradients, None)  # one for each argument of `forward`


def _slopes(totals: Totals, loss: Loss, inputs: slice) -> tuple[Totals, Tensor]:
    """Derivatives of the loss of some inputs with respect to their totals, and its value."""
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in vars(totals).values()]
        value = loss(Totals(*leaves), inputs).sum()
        found = torch.autograd.grad(value, leaves, allow_unused=True)
    slopes = [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, found, strict=True)]
    return Totals(*slopes), value.detach()


@dataclass(frozen=True)
class _Group:
    """Consecutive inputs whose logits are there together, and their positions: first those that were drawn."""

    first_input: int
    last_input: int  # the one after them
    order: Tensor  # [n] indices of positions
    drawn: int


@dataclass(frozen=True)
class _Chunk:
    """What the backward pass needs of a chunk of positions."""

    rows: Tensor  # [n] indices of positions
    drawn: int
    normaliser: Tensor  # [n]
    entropy: Tensor  # [drawn]
    smoothing_loss: Tensor | None  # [] where labels are smoothed
    logits: Tensor | None  # [n, V], where the group fills no more than `KEPT_CHUNKS`


class _Chunks:
    """The output layer at all positions, as many at a time as may be."""

    def __init__(self, states: Tensor, layer: OutputLayer, positions: Positions, smoothing: float = 0.0) -> None:
        device = states.device.type
        narrow = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device) if narrow else layer.weight.dtype
        self.wide = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.states, self.weight = states.detach(), layer.weight.detach().to(self.dtype)
        self.bias = None if layer.bias is None else layer.bias.detach().to(self.wide)
        self.positions, self.forbidden, self.smoothing = positions, layer.forbidden, smoothing
        self.sharpening = layer.sharpening
        self.most_rows = max(1, MOST_LOGITS // layer.weight.shape[0])

    def groups(self) -> Iterator[_Group]:
        """As many inputs at a time as `MOST_LOGITS` allows, at least one."""
        first = start = 0
        counts = self.positions.per_input
        while first < len(counts):
            last, total = first + 1, counts[first]
            while last < len(counts) and total + counts[last] <= self.most_rows:
                total += counts[last]
                last += 1
            drawn, target, place = [], [], start
            for number in range(first, last):
                middle = place + self.positions.drawn_per_input[number]
                drawn.append(torch.arange(place, middle))
                place += counts[number]
                target.append(torch.arange(middle, place))
            order = torch.cat([*drawn, *target]).to(self.states.device, non_blocking=True)
            yield _Group(first, last, order, sum(map(len, drawn)))
            first, start = last, place

    def chunks(self, group: _Group) -> Iterator[tuple[Tensor, int]]:
        """Parts of a group's positions, and how many of each were drawn."""
        for start in range(0, len(group.order), self.most_rows):
            rows = group.order[start : start + self.most_rows]
            yield rows, min(max(group.drawn - start, 0), len(rows))

    def logits(self, rows: Tensor, drawn: int) -> Tensor:
        """[n, V] in float32 at least; where a warmup was drawn sharpened, with what it could not hold ruled out."""
        with _without_autocast(self.states):
            logits = (self.states[rows].to(self.dtype) @ self.weight.T).to(self.wide)
            if self.bias is not None:
                logits += self.bias
        sampled = logits[:drawn]
        if self.sharpening.temperature != 1:
            sampled /= self.sharpening.temperature
        sampled.masked_fill_(self._forbidden(rows[:drawn]), NEVER)
        if self.sharpening.top_p < 1 and drawn:
            sampled.masked_fill_(self.sharpening.outside(sampled, self.positions.tokens[rows[:drawn]]), NEVER)
        return logits

    def _forbidden(self, rows: Tensor) -> Tensor:
        """[V] or, where it differs between inputs, [n, V]."""
        if self.forbidden.dim() == 1:
            return self.forbidden
        return self.forbidden[self.positions.sequences[rows] // self.positions.sequences_per_input]

    def read(self, group: _Group, keep: bool = True) -> tuple[Totals, list[_Chunk]]:
        """The totals [b, G / B] of a group of inputs; its logits are kept where they fill few chunks."""
        inputs, per_input = group.last_input - group.first_input, self.positions.sequences_per_input
        shape = (3, inputs * per_input)
        sums = torch.zeros(shape, dtype=self.wide, device=self.states.device)
        kept = []
        for rows, drawn in self.chunks(group):
            logits = self.logits(rows, drawn)
            normaliser = logits.logsumexp(-1)
            own = logits.gather(1, self.positions.tokens[rows][:, None]).squeeze(1)
            logprob = own - normaliser
            smoothing_loss = self.smoothing * (own - logits.mean(-1))[drawn:].sum() if self.smoothing else None
            probability = (logits[:drawn] - normaliser[:drawn, None]).exp_()
            entropy = normaliser[:drawn] - probability.mul_(logits[:drawn]).sum(-1)
            sequences = self.positions.sequences[rows] - group.first_input * per_input
            sums[0].index_add_(0, sequences[drawn:], logprob[drawn:])
            sums[1].index_add_(0, sequences[:drawn], logprob[:drawn])
            sums[2].index_add_(0, sequences[:drawn], entropy)
            stays = keep and len(group.order) <= KEPT_CHUNKS * self.most_rows
            kept.append(_Chunk(rows, drawn, normaliser, entropy, smoothing_loss, logits if stays else None))
        return Totals(*sums.view(3, inputs, per_input)), kept

    def backward(
        self,
        group: _Group,
        kept: list[_Chunk],
        slopes: Totals,
        to_states: Tensor | None,
        to_weight: Tensor | None,
        to_bias: Tensor | None,
    ) -> None:
        """Add a group's gradients to `to_states` [N, W], `to_weight` [V, W] and `to_bias` [V].

        With p the probabilities, H the entropy, a and e the slopes of a position's log-probability and entropy, the
        gradient with respect to logit j is a (1[j = token] - p_j) - e p_j (log p_j + H), over the temperature where a
        warmup was drawn; the nucleus is a constant. Label smoothing of s adds s (1[j = token] - 1 / V) at target
        positions.
        """
        first = group.first_input * self.positions.sequences_per_input
        for part in kept:
            rows, drawn = part.rows, part.drawn
            sequences = self.positions.sequences[rows] - first
            slope = slopes.target_logprob.flatten()[sequences]
            slope[:drawn] = slopes.warmup_logprob.flatten()[sequences[:drawn]]
            gradient = self.logits(rows, drawn) if part.logits is None else part.logits
            gradient -= part.normaliser[:, None]
            factor = None
            if drawn:
                of_entropy = slopes.warmup_entropy.flatten()[sequences[:drawn], None]
                factor = gradient[:drawn] + part.entropy[:, None]
                factor.mul_(of_entropy).add_(slope[:drawn, None])
            gradient.exp_()
            if factor is not None:
                gradient[:drawn].mul_(factor).neg_()
                del factor
            gradient[drawn:].mul_(-slope[drawn:, None])
            if self.smoothing:
                gradient[drawn:].sub_(self.smoothing / gradient.shape[1])
                slope[drawn:] += self.smoothing
            own = self.positions.tokens[rows][:, None]
            gradient.scatter_add_(1, own, slope[:, None])
            if self.sharpening.temperature != 1:
                gradient[:drawn] /= self.sharpening.temperature
            if to_bias is not None:
                to_bias += gradient.sum(0)
            self._multiply(gradient.to(self.dtype), rows, to_states, to_weight)

    def _multiply(self, gradient: Tensor, rows: Tensor, to_states: Tensor | None, to_weight: Tensor | None) -> None:
        """Add what the logits' gradient [n, V] at positions `rows` [n] is worth to states and weight."""
        with _without_autocast(self.states):
            if to_states is not None:
                to_states[rows] = (gradient @ self.weight).to(to_states.dtype)
            if to_weight is not None and to_weight.dtype == self.dtype:
                to_weight.addmm_(gradient.T, self.states[rows].to(self.dtype))
            elif to_weight is not None:
                to_weight += gradient.T @ self.states[rows].to(self.dtype)


def _without_autocast(like: Tensor) -> AbstractContextManager[None]:
    """The types are chosen here."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


@dataclass(frozen=True)
class _Weighing:
    """What `_Weighed` needs beside its leaves."""

    chunks: _Chunks
    loss: Loss
    record: list[Totals]  # of all groups, to be filled


def _joined(parts: list[Totals]) -> Totals:
    return Totals(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))
