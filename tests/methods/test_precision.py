"""bfloat16, by autocast or in the weights: gradients are float32's up to rounding."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from tests.conftest import ARCHITECTURES
from tests.methods.batch import LIMIT, batch_of, gradients
from warmup.config.schema import WarmupMethod
from warmup.methods import output_layer
from warmup.methods.output_layer import OutputLayer, Positions, Totals, weigh
from warmup.methods.warmup import warmup_loss
from warmup.models.encoding import IGNORED_LABEL, Batch

WORDS, WIDTH = 30, 16
DRAWN = [[2, 1], [3, 0], [1, 2]]  # positions of each of two sequences of three inputs that the sampler drew
TARGETS = [3, 2, 4]
FACTOR = torch.tensor([1.0, -2.0])


def positions() -> Positions:
    """For each input the drawn positions of both sequences, then their targets'."""
    sequences = []
    for number, (drawn, length) in enumerate(zip(DRAWN, TARGETS, strict=True)):
        pair = (2 * number, 2 * number + 1)
        sequences += [pair[0]] * drawn[0] + [pair[1]] * drawn[1] + [pair[0]] * length + [pair[1]] * length
    tokens = torch.randint(5, WORDS, (len(sequences),))
    drawn_per_input = [sum(drawn) for drawn in DRAWN]
    per_input = [first + 2 * length for first, length in zip(drawn_per_input, TARGETS, strict=True)]
    return Positions(tokens, torch.tensor(sequences), drawn_per_input, per_input, 2)


def loss_of(totals: Totals, inputs: slice) -> Tensor:
    mixed = FACTOR.to(totals.target_logprob) * totals.target_logprob + 0.1 * totals.warmup_logprob.square()
    return (mixed - 0.7 * totals.warmup_entropy).sum(-1)


def by_autograd(states: Tensor, weight: Tensor, where: Positions, forbidden: Tensor) -> tuple[Tensor, ...]:
    """The loss and its gradients in float64, from whole log-softmax distributions."""
    states, weight = (part.detach().double().requires_grad_() for part in (states, weight))
    logits, sums, place = states @ weight.T, torch.zeros(3, 6, dtype=torch.float64), 0
    for drawn, count in zip(where.drawn_per_input, where.per_input, strict=True):
        for index in range(place, place + count):
            sequence, token = where.sequences[index], where.tokens[index]
            if index < place + drawn:
                spread = logits[index].masked_fill(forbidden, -1e9).log_softmax(-1)
                added = torch.stack([torch.zeros(()), spread[token], -(spread.exp() * spread).sum()])
            else:
                added = torch.stack([logits[index].log_softmax(-1)[token], torch.zeros(()), torch.zeros(())])
            sums = sums.index_add(1, sequence[None], added.double()[:, None])
        place += count
    value = loss_of(Totals(*sums.view(3, 3, 2)), slice(None)).sum()
    return value.detach(), *torch.autograd.grad(value, (states, weight))


@pytest.mark.parametrize("most_rows", [1000, 11, 6, 4])  # all inputs together, one at a time, two or three parts of one
@pytest.mark.parametrize("kind", ["float64", "float32", "autocast", "autocast of bfloat16 states", "bfloat16 weights"])
def test_the_output_layers_gradients_are_those_of_whole_logits(
    monkeypatch: pytest.MonkeyPatch, kind: str, most_rows: int
) -> None:
    monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * WORDS)
    where, forbidden = positions(), torch.arange(WORDS) < 5
    wide = torch.float64 if kind == "float64" else torch.float32
    states = torch.randn(len(where.tokens), WIDTH, dtype=wide)
    weight = torch.randn(WORDS, WIDTH, dtype=wide)
    if "bfloat16" in kind:
        states = states.bfloat16()
    if kind == "bfloat16 weights":
        weight = weight.bfloat16()
    value, *expected = by_autograd(states, weight, where, forbidden)
    states.requires_grad_()
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16) if kind.startswith("autocast") else nullcontext():
        found, _ = weigh(states, OutputLayer(weight, None, forbidden), where, loss_of)
    (3 * found).backward()
    rounding = {"float64": 1e-9, "float32": 1e-5}.get(kind, 2e-2)
    assert found.dtype == wide and found.item() == pytest.approx(value.item(), rel=rounding)
    for leaf, exact in zip((states, weight), expected, strict=True):
        assert leaf.grad.dtype == leaf.dtype
        assert (leaf.grad.double() / 3 - exact).norm() < rounding * exact.norm()


@pytest.mark.parametrize(("most_rows", "again"), [(6, 0), (4, 9 + 11), (1, 27)])
def test_only_an_input_of_more_than_two_chunks_has_its_logits_made_twice(
    monkeypatch: pytest.MonkeyPatch, most_rows: int, again: int
) -> None:
    """The inputs have 9, 7 and 11 positions; of none are more logits made at a time than may be."""
    monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * WORDS)
    made, plain = [], output_layer._Chunks.logits
    monkeypatch.setattr(output_layer._Chunks, "logits", lambda *a: made.append(len(found := plain(*a))) or found)
    where, weight = positions(), torch.randn(WORDS, WIDTH, requires_grad=True)
    states = torch.randn(len(where.tokens), WIDTH, requires_grad=True)
    weigh(states, OutputLayer(weight, None, torch.arange(WORDS) < 5), where, loss_of)[0].backward()
    assert sum(made) == 27 + again and max(made) <= most_rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_long_targets_in_bfloat16_teach_what_they_teach_in_float32(make_backbone, architecture: str) -> None:
    """Under autocast, with targets of 300 tokens and a source that is all padding but two."""
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    labels = torch.randint(10, 250, (3, 300))
    labels[1, 3:] = IGNORED_LABEL
    method = WarmupMethod(num_samples=3, max_warmup_tokens=LIMIT)
    results = []
    for narrow in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss, found = warmup_loss(backbone, method, Batch(ids, mask, labels), torch.arange(3), measure=True)
        assert loss.dtype == torch.float32
        assert all(torch.tensor(value).isfinite() for value in found.values())
        results.append((loss.item(), gradients(backbone, loss)))
    (exact, expected), (rounded, found) = results
    assert rounded == pytest.approx(exact, rel=0.01)
    for (name, _), part, other in zip(backbone.model.named_parameters(), found, expected, strict=True):
        assert other.norm() > 0 and (part - other).norm() < 0.3 * other.norm(), name
