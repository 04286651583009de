"""Scoring warmups and the targets after them: each input's different warmups stand in one row, read once.

A continuation is `c_1 .. c_m <sep> y_1 .. y_n </s>`. Shapes: B inputs, K continuations of each, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warmup.methods.output_layer import Loss, OutputLayer, Positions, Totals, totals_of, weigh
from warmup.methods.sampling import Warmups
from warmup.models.backbone import Backbone, never_in_warmups
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.families import Encoded
from warmup.models.modes import SharedDropout

MOST_IN_A_ROW = 1024  # tokens: the attention mask grows with their square
MOST_ON_CPU = 128  # where a call costs little, and what tokens of other continuations cost shows (docs/method.md)


@dataclass(frozen=True)
class Continuations:
    """Warmups joined with their targets, all [B, K, L]; in main memory, like the warmups."""

    tokens: Tensor
    mask: Tensor  # true where there is a token
    warmup_part: Tensor  # true where a token was drawn by the sampler
    target_part: Tensor  # true on target tokens and </s>


@dataclass(frozen=True)
class Reading:
    """Continuations that the model has read, short of the output layer: N positions that predict a chosen token."""

    states: Tensor  # [N, W], with gradient where it is enabled
    tokens: Tensor  # [N] the token to be predicted
    inputs: Tensor  # [N] which input of the batch
    slots: Tensor  # [N] which of the input's different warmups
    drawn: Tensor  # [N] true for a token that the sampler drew, false for the target's
    copies: Tensor  # [B, K] the slot of each warmup: equal ones share it
    never: Tensor  # [V] or [B, V] true for tokens that could not be drawn

    def positions(self) -> tuple[Tensor, Positions]:
        """The order [N] in which the output layer takes the positions, and the positions in that order."""
        batch, slots, device = len(self.copies), int(self.copies.max()) + 1, self.states.device
        order = (2 * self.inputs + ~self.drawn).argsort(stable=True)
        sequences = self.inputs * slots + self.slots
        return order, Positions(
            self.tokens[order].to(device),
            sequences[order].to(device),
            self.inputs[self.drawn].bincount(minlength=batch).tolist(),
            self.inputs.bincount(minlength=batch).tolist(),
            slots,
        )


PER_POSITION = ("states", "tokens", "inputs", "slots", "drawn")


def join(warmups: Warmups, labels: Tensor, separator: Sequence[int], padding_id: int) -> Continuations:
    """Write each target [B, T] (labels padded with -100) after each of its input's warmups, without gaps.

    `separator` stands between them; what follows its first token is never drawn. Warmups alone need no more of it.
    """
    separator = separator if bool((labels != IGNORED_LABEL).any()) else separator[:1]
    batch, count, limit = warmups.tokens.shape
    lengths = warmups.lengths[..., None]
    target_lengths = (labels != IGNORED_LABEL).sum(-1)[:, None, None]
    between = len(separator)
    width = int((lengths + between + target_lengths).max())
    place = torch.arange(width).expand(batch, count, width)
    in_warmup = place < lengths
    after = place - lengths  # 0 on the separator's first token
    at_separator = (after >= 0) & (after < between)
    in_target = (after >= between) & (after < between + target_lengths)
    from_warmup = warmups.tokens.gather(-1, place.clamp(max=limit - 1))
    targets = labels[:, None].expand(batch, count, -1)
    from_target = targets.gather(-1, (after - between).clamp(0, labels.shape[1] - 1))
    tokens = torch.where(in_warmup, from_warmup, torch.where(in_target, from_target, padding_id))
    tokens = torch.where(at_separator, torch.tensor(separator)[after.clamp(0, between - 1)], tokens)
    drawn = in_warmup | ((after == 0) & ~warmups.forced[..., None])
    return Continuations(tokens, in_warmup | at_separator | in_target, drawn, in_target)


def read_warmups(
    backbone: Backbone,
    encoded: Encoded,
    warmups: Warmups,
    labels: Tensor,
    dropout: SharedDropout | None = None,
    earlier: Reading | None = None,
) -> Reading:
    """Read each input's different warmups, and the target after each; equal warmups are read once.

    `labels` [B, T] without any target token (all -100) leave the warmups alone. `earlier` has read the first of these
    warmups already; they are not read again.
    """
    slots, new = _slots(warmups)
    done = 0 if earlier is None else earlier.copies.shape[1]
    new[:, :done] = False
    inputs = new.any(-1).nonzero().squeeze(-1)
    if earlier is not None and not len(inputs):
        return replace(earlier, copies=slots)
    # the new ones of each input stand first; others fill the row up, and none of their positions is chosen
    columns = (~new).to(torch.uint8).argsort(dim=-1, stable=True)[inputs, : int(new.sum(-1).max())]
    chosen = new[inputs].gather(1, columns)
    part = warmups.select(columns, inputs)
    rows = join(part, labels.cpu()[inputs], backbone.separator, backbone.tokenizer.pad_token_id)
    sources = encoded if len(inputs) == len(new) else encoded.select(inputs.to(encoded.ids.device))
    states = _states(backbone, sources, rows, inputs, dropout)
    read = _chosen(rows, states, chosen, inputs, slots[inputs].gather(1, columns))
    if earlier is None:
        return Reading(**read, copies=slots, never=never_in_warmups(backbone, encoded))
    joined = {name: torch.cat([getattr(earlier, name), read[name]]) for name in PER_POSITION}
    return Reading(**joined, copies=slots, never=earlier.never)


def shared_dropout(backbone: Backbone, warmups_limit: int, labels: Tensor) -> SharedDropout:
    """One mask for all continuations of an input of the batch: warmups of up to `warmups_limit` tokens and targets."""
    longest = warmups_limit + len(backbone.separator) + labels.shape[1]
    return SharedDropout(backbone.family.reader(backbone.model), len(labels), longest)


def read_targets(backbone: Backbone, encoded: Encoded, labels: Tensor, prefix: Sequence[int] = ()) -> Reading:
    """Read targets [B, T] written straight after their sources, as SFT trains them, or after one `prefix` for all."""
    before = torch.tensor([prefix], dtype=torch.long).expand(len(labels), 1, -1)
    in_prefix = torch.ones_like(before, dtype=torch.bool)
    present = (labels != IGNORED_LABEL).cpu()[:, None]
    tokens = labels.cpu()[:, None].masked_fill(~present, backbone.tokenizer.pad_token_id)
    mask, target = torch.cat([in_prefix, present], dim=-1), torch.cat([~in_prefix, present], dim=-1)
    rows = Continuations(torch.cat([before, tokens], dim=-1), mask, torch.zeros_like(mask), target)
    inputs = torch.arange(len(labels))
    alone = torch.zeros(len(labels), 1, dtype=torch.long)
    states = _states(backbone, encoded, rows, inputs, None)
    read = _chosen(rows, states, torch.ones_like(alone, dtype=torch.bool), inputs, alone)
    return Reading(**read, copies=alone, never=backbone.never_in_warmup.to(encoded.ids.device))


def _slots(warmups: Warmups) -> tuple[Tensor, Tensor]:
    """The slot [B, K] of each warmup among its input's different ones, and where [B, K] a slot is first seen."""
    same = (warmups.tokens[:, :, None] == warmups.tokens[:, None]).all(-1)
    same &= warmups.lengths[:, :, None] == warmups.lengths[:, None]
    first = same.to(torch.uint8).argmax(dim=-1)  # the first warmup equal to each
    present = warmups.log_prior_weight > float("-inf")
    new = (first == torch.arange(warmups.count)) & present
    place = (new.cumsum(-1) - 1).clamp(min=0)
    return torch.where(present, place.gather(1, first), 0), new


def _states(
    backbone: Backbone, encoded: Encoded, rows: Continuations, inputs: Tensor, dropout: SharedDropout | None
) -> Tensor:
    """[B', K', L, W] what predicts each token of `inputs` [B'], in rows of `MOST_IN_A_ROW` tokens at most."""
    count, length = rows.tokens.shape[1:]
    device = encoded.ids.device
    most = min(MOST_IN_A_ROW, MOST_ON_CPU) if device.type == "cpu" else MOST_IN_A_ROW
    at_once = max(1, most // length)
    states = []
    for start in range(0, count, at_once):
        tokens, mask = (part[:, start : start + at_once].to(device) for part in (rows.tokens, rows.mask))
        with dropout.rows(length, inputs.to(device)) if dropout else nullcontext():
            states.append(backbone.family.hidden(backbone.model, encoded, tokens, mask))
    return torch.cat(states, dim=1) if len(states) > 1 else states[0]


def _chosen(
    rows: Continuations, states: Tensor, chosen: Tensor, inputs: Tensor, own_slots: Tensor
) -> dict[str, Tensor]:
    """`PER_POSITION`: positions of warmup and target tokens in the chosen [B', K'] continuations of `inputs` [B']."""
    wanted = (rows.warmup_part | rows.target_part) & chosen[..., None]
    row, column, place = wanted.nonzero(as_tuple=True)
    flat = (row * wanted.shape[1] + column) * wanted.shape[2] + place
    values = (
        states.flatten(0, 2)[flat.to(states.device)],
        rows.tokens[row, column, place],
        inputs[row],
        own_slots[row, column],
        rows.warmup_part[row, column, place],
    )
    return dict(zip(PER_POSITION, values, strict=True))


def weigh_read(backbone: Backbone, read: Reading, loss: Loss, smoothing: float = 0.0) -> tuple[Tensor, Totals]:
    """The sum of a loss over all inputs, differentiable, and the totals [B, K] without gradient.

    `loss` is called with the totals [b, K] of a few inputs at a time, and the slice of the batch that they are;
    `smoothing` of the targets' labels is added to it (`output_layer.weigh`).
    """
    order, positions = read.positions()
    device = read.states.device
    copies = read.copies.to(device)

    def of_copies(totals: Totals, inputs: slice) -> Tensor:
        return loss(_copied(totals, copies[inputs]), inputs)

    states, layer = read.states[order.to(device)], _output_layer(backbone, read)
    value, totals = weigh(states, layer, positions, of_copies, smoothing)
    return value, _copied(totals, copies)


@torch.no_grad()
def score_read(backbone: Backbone, read: Reading, targets_only: bool = False) -> Totals:
    """The totals [B, K] alone, without gradient; `targets_only` spares the output layer the warmups' tokens."""
    if targets_only:
        kept = (~read.drawn).nonzero().squeeze(-1)
        flat = {name: getattr(read, name)[kept] for name in PER_POSITION[1:]}
        read = replace(read, states=read.states[kept.to(read.states.device)], **flat)
    order, positions = read.positions()
    device = read.states.device
    totals = totals_of(read.states[order.to(device)], _output_layer(backbone, read), positions)
    return _copied(totals, read.copies.to(device))


def _output_layer(backbone: Backbone, read: Reading) -> OutputLayer:
    model, family = backbone.model, backbone.family
    return OutputLayer(family.output_weight(model), family.output_bias(model), read.never, backbone.sharpening)


@torch.no_grad()
def score_warmups(backbone: Backbone, encoded: Encoded, warmups: Warmups, labels: Tensor) -> Totals:
    """log p(y|x,c), log p(c|x) and the entropy of every warmup, [B, K], without gradient."""
    return score_read(backbone, read_warmups(backbone, encoded, warmups, labels))


def _copied(totals: Totals, copies: Tensor) -> Totals:
    return Totals(*(values.gather(1, copies) for values in vars(totals).values()))
