"""A sharpened p(c|x) against enumeration and against the formula, in sampling, scoring, entropy and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.methods import batch
from tests.methods.enumeration import LABELS, LIMIT, ORDINARY, Everything, sharpen
from tests.methods.oracle import sharpened
from tests.methods.test_engine import assert_equals_oracle
from tests.methods.test_precision import WIDTH, WORDS, loss_of, positions
from tests.methods.test_samplers import assert_frequencies, proposal_of
from warmup.config.schema import WarmupMethod
from warmup.methods import output_layer
from warmup.methods.noise import Noise
from warmup.methods.output_layer import OutputLayer, Positions, Totals, totals_of, weigh
from warmup.methods.sampling import Proposal, even_weights, sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.methods.warmup import warmup_loss
from warmup.methods.without_replacement import sample_without_replacement
from warmup.models import sharpening
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch
from warmup.models.sharpening import Sharpening

SHARPENINGS = [Sharpening(0.4), Sharpening(3.0), Sharpening(1.0, 0.7), Sharpening(0.6, 0.9), Sharpening(2.5, 0.5)]


@pytest.fixture(params=["t5", "llama"])
def plain(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    return sharpen(make_backbone(request.param), request.param)


def everything(backbone: Backbone, sharpened_by: Sharpening) -> Everything:
    backbone.sharpening = sharpened_by
    return Everything.of(backbone)


@pytest.mark.parametrize("by", SHARPENINGS, ids=str)
def test_the_probabilities_of_all_warmups_sum_to_one(plain: Backbone, by: Sharpening) -> None:
    """Those of the formula; those that drawing all of them without replacement tells; those that are scored."""
    unsharpened = everything(plain, Sharpening()).scores.warmup_logprob[0].exp()
    every = everything(plain, by)
    exact = every.scores.warmup_logprob[0].detach()
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert (exact.exp() - unsharpened).abs().max() > 0.01
    inside = exact > -math.inf
    assert bool(inside.all()) == (by.top_p == 1)
    encoded, noise = every.copies(1)
    drawn = sample_without_replacement(plain, encoded, 15, LIMIT, noise)
    present = drawn.log_prior_weight[0] > -math.inf
    assert present.sum() == inside.sum()
    index = every.index(drawn.tokens[0][present])
    assert set(index.tolist()) == set(inside.nonzero().flatten().tolist())
    scored = score_warmups(plain, encoded, drawn, LABELS)
    for found in (drawn.logprob, drawn.log_prior_weight, scored.warmup_logprob):
        torch.testing.assert_close(found[0][present], exact[index], rtol=0, atol=1e-5)
        assert found[0][present].exp().sum().item() == pytest.approx(1, abs=1e-5)
    entropy = every.scores.warmup_entropy[0].detach()[index]
    torch.testing.assert_close(scored.warmup_entropy[0][present], entropy, rtol=0, atol=1e-5)


@pytest.mark.parametrize("by", SHARPENINGS, ids=str)
def test_warmups_are_drawn_with_these_probabilities_and_without_weights(plain: Backbone, by: Sharpening) -> None:
    every = everything(plain, by)
    encoded, noise = every.copies(1)
    drawn = sample_warmups(plain, encoded, 6000, LIMIT, noise)
    probabilities = every.scores.warmup_logprob[0].exp().detach()
    assert_frequencies(every.index(drawn.tokens[0]), probabilities)
    torch.testing.assert_close(drawn.log_prior_weight, even_weights(1, 6000))
    # the first token of each is the inverse of the cumulative probabilities, in the order of token ids
    words = sorted([*ORDINARY, plain.separator_id])
    shares = dict(zip([*ORDINARY, plain.separator_id], every.scores.drawn_from[0][0][0].exp().tolist(), strict=True))
    order = [word for word in words if shares[word]]
    sums = torch.tensor([shares[word] for word in order], dtype=torch.float64).cumsum(0)
    uniform = Noise(torch.arange(1)).uniform(6000, LIMIT)[0, :, 0].contiguous()
    expected = torch.tensor(order)[torch.searchsorted(sums, uniform).clamp(max=len(order) - 1)]
    first = torch.where(drawn.lengths[0] > 0, drawn.tokens[0, :, 0], plain.separator_id)
    clear = ((uniform[:, None] - sums).abs() > 1e-5).all(-1)  # of rounding
    assert torch.equal(first[clear], expected[clear]) and clear.sum() > 5900


@pytest.mark.parametrize("by", [Sharpening(0.5), Sharpening(2.0, 0.8)], ids=str)
def test_a_proposal_is_made_of_the_sharpened_distribution(plain: Backbone, by: Sharpening) -> None:
    """And the weights are those of the sharpened p to the proposal q."""
    every = everything(plain, by)
    proposal = proposal_of(every, 1.8, 0.9)
    encoded, noise = every.copies(1000)
    drawn = sample_warmups(plain, encoded, 2, LIMIT, noise, Proposal(1.8, 0.9))
    index = every.index(drawn.tokens)
    assert_frequencies(index, proposal)
    exact = every.scores.warmup_logprob[0].detach() - proposal.log() - math.log(2)
    torch.testing.assert_close(drawn.log_prior_weight, exact[index], rtol=0, atol=1e-5)


ESTIMATORS = [
    {},
    {"objective": "vimco"},
    {"objective": "elbo"},
    {"baseline": "loo", "posterior_temperature": 2.0},
    {"sampling_temperature": 2.0, "sampling_top_p": 0.9},
    {"sampler": "without_replacement"},
    {"sampler": "adaptive", "num_samples": 5},
]
PAIRS = [(by, changes) for by in (SHARPENINGS[0], SHARPENINGS[2], Sharpening(2.0, 0.8)) for changes in ESTIMATORS]
PAIRS += [(Sharpening(temperature), {"sampler": "recognition"}) for temperature in (0.5, 2.0)]


@pytest.mark.parametrize("most_rows", [None, 4])
@pytest.mark.parametrize(("by", "changes"), PAIRS, ids=str)
def test_every_estimator_equals_its_formula_with_the_sharpened_distribution(
    make_backbone, monkeypatch: pytest.MonkeyPatch, by: Sharpening, changes: dict, most_rows: int | None
) -> None:
    backbone = make_backbone("llama" if most_rows else "t5")
    backbone.model.double()
    forbidden = torch.ones_like(backbone.never_in_warmup)
    forbidden[[*range(20, 26), backbone.separator_id]] = False
    backbone.__dict__["never_in_warmup"] = forbidden
    backbone.sharpening = by
    if most_rows:
        words = backbone.family.output_weight(backbone.model).shape[0]
        monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * words)
        monkeypatch.setattr(sharpening, "MOST_SORTED", 3 * words)
    method = {"num_samples": 4, "max_warmup_tokens": batch.LIMIT, "entropy_coef": 0.1} | changes
    assert_equals_oracle(backbone, WarmupMethod(**method))


def by_autograd(
    states: Tensor, weight: Tensor, bias: Tensor, where: Positions, forbidden: Tensor, by: Sharpening
) -> tuple[Totals, tuple[Tensor, ...], int]:
    """Totals and gradients from whole distributions, and how many drawn tokens lie outside their nucleus.

    A drawn token that lies outside is one more token of the nucleus.
    """
    logits, sums, place, lost = states @ weight.T + bias, torch.zeros(3, 6, dtype=torch.float64), 0, 0
    for drawn, count in zip(where.drawn_per_input, where.per_input, strict=True):
        for index in range(place, place + count):
            sequence, token = where.sequences[index], where.tokens[index]
            if index < place + drawn:
                row = (logits[index] / by.temperature).masked_fill(forbidden, -math.inf)
                inside = sharpened(row[None].detach(), 1.0, by.top_p)[0] > -math.inf
                lost += not inside[token]
                inside[token] = True
                spread = row[inside].log_softmax(-1)
                chosen = spread[int(inside[:token].sum())]
                added = torch.stack([torch.zeros(()).double(), chosen, -(spread.exp() * spread).sum()])
            else:
                added = torch.stack([logits[index].log_softmax(-1)[token], *torch.zeros(2).double()])
            sums = sums.index_add(1, sequence[None], added[:, None])
        place += count
    totals = Totals(*sums.view(3, 3, 2))
    value = loss_of(totals, slice(None)).sum()
    return totals, torch.autograd.grad(value, (states, weight, bias)), lost


@pytest.mark.parametrize("most_rows", [1000, 9, 4])  # all inputs together, one at a time, parts of one
@pytest.mark.parametrize("by", [*SHARPENINGS, Sharpening(0.3, 0.1)], ids=str)
def test_scores_and_gradients_are_those_of_whole_distributions(
    monkeypatch: pytest.MonkeyPatch, by: Sharpening, most_rows: int
) -> None:
    monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * WORDS)
    monkeypatch.setattr(sharpening, "MOST_SORTED", 2 * WORDS)
    where, forbidden = positions(), torch.arange(WORDS) < 5
    leaves = [torch.randn(*shape).double() / 2 for shape in ((len(where.tokens), WIDTH), (WORDS, WIDTH), (WORDS,))]
    for leaf in leaves:
        leaf.requires_grad_()
    expected, exact, lost = by_autograd(*leaves, where, forbidden, by)
    assert bool(lost) == (by.top_p < 1)
    layer = OutputLayer(leaves[1], leaves[2], forbidden, by)
    value, found = weigh(leaves[0], layer, where, loss_of)
    for totals in (found, totals_of(leaves[0], layer, where)):
        for name, part in vars(totals).items():
            torch.testing.assert_close(part, getattr(expected, name).detach(), rtol=0, atol=1e-9)
    for part, other in zip(torch.autograd.grad(value, leaves), exact, strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=1e-9)


def test_of_tokens_as_likely_as_one_another_the_first_are_in_the_nucleus(plain: Backbone) -> None:
    """In sampling and scoring alike, although the cut goes through them: the model finds all four as likely."""
    with torch.no_grad():
        plain.model.get_output_embeddings().weight.zero_()
    plain.sharpening = Sharpening(0.7, 0.5)
    every = Everything.of(plain)
    first = sorted([*ORDINARY, plain.separator_id])[:2]
    encoded, noise = every.copies(1)
    drawn = sample_warmups(plain, encoded, 200, LIMIT, noise)
    inside = torch.arange(LIMIT) < drawn.lengths[..., None]
    assert {*drawn.tokens[inside].tolist()} <= {*first}
    tokens = (drawn.lengths + ~drawn.forced).double()
    scored = score_warmups(plain, encoded, drawn, LABELS)
    for found in (-scored.warmup_logprob, scored.warmup_entropy):
        torch.testing.assert_close(found, tokens * math.log(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "vimco"},
        {"objective": "resample"},
        {"sampler": "adaptive"},
        {"sampler": "without_replacement"},
    ],
    ids=str,
)
@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_nothing_is_infinite_where_scoring_sees_other_logits_than_sampling(
    make_backbone, monkeypatch: pytest.MonkeyPatch, architecture: str, changes: dict, narrow: bool
) -> None:
    """Dropout while scoring (T5), or other weights (Llama has no dropout), move drawn tokens out of the nucleus."""
    backbone = make_backbone(architecture, dropout=0.3 if architecture == "t5" else 0.0)
    backbone.sharpening = Sharpening(0.5, 0.3)
    lost, outside = [], Sharpening.outside

    def watched(self: Sharpening, logits: Tensor, drawn: Tensor | None = None) -> Tensor:
        if drawn is not None:
            if architecture == "llama":
                logits += torch.randn_like(logits).masked_fill(logits < -1e6, 0.0)
            lost.append(outside(self, logits).gather(1, drawn[:, None]).sum().item())
        return outside(self, logits, drawn)

    monkeypatch.setattr(Sharpening, "outside", watched)
    backbone.model.train()
    ids, mask = batch.batch_of(backbone)
    method = WarmupMethod(**{"num_samples": 4, "max_warmup_tokens": 6, "entropy_coef": 0.1} | changes)
    for step in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss, gauges = warmup_loss(
                backbone, method, Batch(ids, mask, batch.LABELS), torch.arange(3) + step, measure=True
            )
        assert all(math.isfinite(value) for value in (loss.item(), *gauges.values()))
        assert loss.abs() < 1e4  # nor as good as infinite
        assert all(part.isfinite().all() for part in batch.gradients(backbone, loss))
    assert changes.get("objective") == "resample" or sum(lost)  # of one drawn warmup alone there may be none


def test_a_given_warmup_outside_the_nucleus_is_scored_as_one_more_token_of_it(plain: Backbone) -> None:
    plain.sharpening = Sharpening(1.0, 0.05)  # the likeliest token alone
    every = everything(plain, Sharpening(1.0, 0.05))
    encoded, _ = every.copies(1)
    scored = score_warmups(plain, encoded, every.warmups, LABELS).warmup_logprob[0]
    exact = every.scores.warmup_logprob[0].detach()
    assert (exact > -math.inf).sum() == 1 and scored[exact > -math.inf].abs().item() < 1e-9
    assert (scored > -1e3).all() and (scored[exact == -math.inf] < -0.1).all()


def test_no_sharpening_changes_nothing(plain: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sorts nothing, and a model has it left to itself."""
    monkeypatch.setattr(Sharpening, "outside", None)
    assert plain.sharpening == Sharpening(1.0, 1.0) and plain.sharpening.is_plain
    every = Everything.of(plain)
    encoded, noise = every.copies(2)
    for sample in (sample_warmups, sample_without_replacement):
        drawn = sample(plain, encoded, 3, LIMIT, noise)
        found = score_warmups(plain, encoded, drawn, LABELS.expand(2, -1)).warmup_logprob
        exact = every.scores.warmup_logprob[0].detach()[every.index(drawn.tokens)]
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-5)
