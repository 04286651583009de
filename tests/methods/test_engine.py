"""Every shortcut of the engine against the formulas on plain forwards: loss and every gradient, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.methods.batch import LABELS, LIMIT, SOURCES, assert_same_gradients, batch_of, gradients, noise_of, scores_of
from tests.methods.oracle import loss as oracle_loss
from tests.methods.oracle import recognition_sources, score, sources_of
from warmup.config.schema import WarmupMethod
from warmup.methods import output_layer, scoring
from warmup.methods.noise import input_seeds
from warmup.methods.sampling import Proposal, Warmups, even_weights, sample_warmups
from warmup.methods.scoring import read_warmups, score_read, score_warmups, weigh_read
from warmup.methods.warmup import Step, draw_warmups, warmup_loss, warmup_step
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch
from warmup.studies.naive import naive_loss, naive_sample, naive_scores


def assert_equals_oracle(backbone: Backbone, method: WarmupMethod) -> Step:
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    step = warmup_step(backbone, method, encoded, LABELS, noise_of(backbone))
    found = gradients(backbone, step.loss)
    scores, weight, proposed = scores_of(backbone, step.warmups), step.warmups.log_prior_weight, None
    if method.sampler == "recognition":
        shown = recognition_sources(backbone, sources_of(ids, mask), LABELS)
        proposed = score(backbone, shown, step.warmups, LABELS).warmup_logprob
        from_prior = method.num_samples // 2
        prior, proposal = scores.warmup_logprob.detach(), proposed.detach()
        mixture = from_prior * prior.exp() + (method.num_samples - from_prior) * proposal.exp()
        weight = prior - mixture.log()
    present = weight > float("-inf")
    exact = scores.target_logprob.detach()[present]
    torch.testing.assert_close(step.target_logprob[present], exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(step.log_prior_weight, weight, rtol=0, atol=1e-5)
    loss = oracle_loss(method, scores, weight, proposed)
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_same_gradients(found, gradients(backbone, loss))
    return step


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_step_equals_the_formulas(backbone: Backbone, count: int) -> None:
    method = WarmupMethod(num_samples=count, max_warmup_tokens=LIMIT, entropy_coef=0.1)
    step = assert_equals_oracle(backbone, method)
    assert count < 5 or 0 < step.warmups.forced.sum() < 15


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "vimco"},
        {"objective": "elbo"},
        {"baseline": "loo"},
        {"baseline": "none"},
        {"posterior_temperature": 3.0},
        {"posterior_temperature": 3.0, "baseline": "loo"},
        {"sampling_temperature": 2.0},
        {"sampling_top_p": 0.5},
        {"sampler": "without_replacement"},
        {"sampler": "recognition"},
        {"sampler": "recognition", "num_samples": 1},
        {"sampler": "recognition", "num_samples": 3, "posterior_temperature": 3.0, "baseline": "loo"},
        {"sampler": "adaptive", "num_samples": 5},
        {"sampler": "adaptive", "objective": "vimco"},
        {"sampler": "adaptive", "objective": "elbo"},
    ],
    ids=str,
)
def test_every_estimator_equals_its_formula(backbone: Backbone, changes: dict) -> None:
    assert_equals_oracle(
        backbone, WarmupMethod(**{"num_samples": 4, "max_warmup_tokens": LIMIT, "entropy_coef": 0.1} | changes)
    )


def test_warmups_are_drawn_as_the_method_says(backbone: Backbone) -> None:
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))

    def drawn(**changes: object) -> Warmups:
        method = WarmupMethod(num_samples=6, max_warmup_tokens=LIMIT, **changes)
        return draw_warmups(backbone, method, encoded, noise_of(backbone))

    found = drawn(sampling_temperature=0.5, sampling_top_p=0.8)
    expected = sample_warmups(backbone, encoded, 6, LIMIT, noise_of(backbone), Proposal(0.5, 0.8))
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.log_prior_weight, expected.log_prior_weight)
    different = drawn(sampler="without_replacement")
    assert all(len({*map(tuple, row)}) == 6 for row in different.tokens.tolist())
    exact = scores_of(backbone, different).warmup_logprob.detach()
    torch.testing.assert_close(different.logprob, exact, rtol=0, atol=1e-5)
    assert any(len({*map(tuple, row)}) < 6 for row in drawn().tokens.tolist())


def test_ragged_forced_sampled_and_repeated_warmups_have_their_own_scores(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    tokens = [[[20, 21, 22], [23, 0, 0], [20, 21, 22]], [[0, 0, 0], [24, 25, 0], [0, 0, 0]], [[25, 0, 0]] * 3]
    lengths = torch.tensor([[3, 1, 3], [0, 2, 0], [1, 1, 1]])
    warmups = Warmups(torch.tensor(tokens), lengths, lengths == LIMIT, even_weights(3, 3))
    encoded = backbone.family.encode(backbone.model, ids, mask)
    read = read_warmups(backbone, encoded, warmups, LABELS)
    assert read.copies.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    found, expected = score_read(backbone, read), scores_of(backbone, warmups)
    for name, values in vars(found).items():
        torch.testing.assert_close(values, getattr(expected, name).detach(), rtol=0, atol=1e-5)

    def loss(totals, inputs):
        mixed = totals.target_logprob * torch.tensor([1.0, 2.0, 3.0]) + 0.5 * totals.warmup_logprob
        return (mixed + 0.1 * totals.warmup_entropy).sum(-1)

    value, _ = weigh_read(backbone, read, loss)
    assert_same_gradients(gradients(backbone, value), gradients(backbone, loss(expected, slice(None)).sum()))


def test_equal_warmups_are_computed_once_and_empty_slots_never(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)

    def operations(count: int, empty: int = 0) -> int:
        lengths = torch.full((3, count + empty), 2)
        tokens = torch.tensor([[[20, 21, 0]] * count + [[22, 23, 0]] * empty] * 3)
        weight = torch.cat([even_weights(3, count), torch.full((3, empty), float("-inf"))], dim=1)
        warmups = Warmups(tokens, lengths, lengths == LIMIT, weight)
        with FlopCounterMode(display=False) as counter:
            score_warmups(backbone, encoded, warmups, LABELS)
        return counter.get_total_flops()

    assert operations(1) == operations(6) == operations(2, empty=1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_may_stand_on_either_side(backbone: Backbone, side: str) -> None:
    rows = [[*row, 1 if backbone.model.config.is_encoder_decoder else backbone.separator_id] for row in SOURCES]
    longest = max(map(len, rows)) + 2
    padded = [([0] * (longest - len(r)) + r) if side == "left" else (r + [0] * (longest - len(r))) for r in rows]
    ids = torch.tensor(padded)
    mask = (ids != 0).long()
    method = WarmupMethod(num_samples=2, max_warmup_tokens=LIMIT)
    results = []
    for source, kept in (batch_of(backbone), (ids, mask)):
        encoded = backbone.family.encode(backbone.model, source, kept)
        warmups = draw_warmups(backbone, method, encoded, noise_of(backbone))
        results.append((warmups.tokens, score_warmups(backbone, encoded, warmups, LABELS).target_logprob))
    if not backbone.model.config.is_encoder_decoder or side == "right":  # T5 never pads on the left: positions shift
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-5)


def test_small_chunks_change_nothing(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of fewer positions than an input has."""
    words = backbone.family.output_weight(backbone.model).shape[0]
    monkeypatch.setattr(output_layer, "MOST_LOGITS", 4 * words)
    assert_equals_oracle(backbone, WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, entropy_coef=0.1))


@pytest.mark.parametrize("limit", ["MOST_IN_A_ROW", "MOST_ON_CPU"])
def test_rows_hold_no_more_tokens_than_they_may(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """And several rows teach what one does."""
    sizes, plain = [], type(backbone.family).hidden

    def hidden(self, model, encoded, continuations, mask):
        sizes.append(continuations[0].numel())
        return plain(self, model, encoded, continuations, mask)

    monkeypatch.setattr(type(backbone.family), "hidden", hidden)
    monkeypatch.setattr(scoring, limit, 17)
    assert_equals_oracle(backbone, WarmupMethod(num_samples=5, max_warmup_tokens=LIMIT, entropy_coef=0.1))
    assert len(sizes) > 1 and max(sizes) <= 17


def test_logits_never_exist_whole(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    words = backbone.family.output_weight(backbone.model).shape[0]
    monkeypatch.setattr(output_layer, "MOST_LOGITS", 20 * words)
    sizes, plain = [], output_layer._Chunks.logits
    monkeypatch.setattr(output_layer._Chunks, "logits", lambda *a: sizes.append((found := plain(*a)).numel()) or found)
    ids, mask = batch_of(backbone)
    seeds = input_seeds(1, 2, ids, mask, LABELS)
    warmup_loss(backbone, WarmupMethod(num_samples=8, max_warmup_tokens=LIMIT), Batch(ids, mask, LABELS), seeds)
    assert len(sizes) > 2 and max(sizes) <= 20 * words


def test_the_benchmarks_yardstick_is_the_same_step(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    torch.manual_seed(1)
    warmups = naive_sample(backbone, ids, mask, 4, LIMIT)
    assert warmups.tokens.shape == (3, 4, LIMIT) and 0 < warmups.forced.sum() < 12
    assert torch.equal(warmups.forced, warmups.lengths == LIMIT)
    inside = torch.arange(LIMIT) < warmups.lengths[..., None]
    assert {*warmups.tokens[inside].tolist()} <= {*range(20, 26)}
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, entropy_coef=0.1)
    found = naive_loss(naive_scores(backbone, ids, mask, warmups, LABELS), warmups, "marginal", "mean", 1.0, 0.1)
    expected = oracle_loss(method, scores_of(backbone, warmups), warmups.log_prior_weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert_same_gradients(gradients(backbone, found), gradients(backbone, expected))
