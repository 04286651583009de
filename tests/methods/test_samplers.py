"""Every sampler against enumeration: what it draws, and what its weights make of the draws."""

from __future__ import annotations

import math

import pytest
import torch

from tests.conftest import ARCHITECTURES
from tests.methods import batch
from tests.methods.enumeration import LABELS, LIMIT, ORDINARY, Everything, gradient, sharpen
from tests.methods.oracle import score
from warmup.config.schema import WarmupMethod
from warmup.methods import without_replacement
from warmup.methods.noise import Noise, input_seeds, invert
from warmup.methods.objective import log_likelihood
from warmup.methods.recognition import Recognition
from warmup.methods.sampling import Proposal, even_weights, sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.methods.warmup import warmup_step
from warmup.methods.without_replacement import sample_without_replacement
from warmup.models.backbone import Backbone

DRAWS = 2000


@pytest.fixture(params=ARCHITECTURES)
def everything(request: pytest.FixtureRequest, make_backbone) -> Everything:
    return Everything.of(sharpen(make_backbone(request.param), request.param))


def assert_unbiased(everything: Everything, estimates: torch.Tensor) -> None:
    """The mean of independent estimates [N] of p(y|x) is within four standard errors of the exact value."""
    exact = everything.log_likelihood().exp().item()
    error = estimates.std().item() / len(estimates) ** 0.5
    assert abs(estimates.mean().item() - exact) <= 4 * error + 1e-9 * exact
    assert error < 0.2 * exact  # or the check would say little


def test_sampled_warmups_follow_their_scored_probabilities(everything: Everything) -> None:
    encoded, noise = everything.copies(1)
    drawn = sample_warmups(everything.backbone, encoded, 10000, LIMIT, noise)
    assert_frequencies(everything.index(drawn.tokens[0]), everything.scores.warmup_logprob[0].exp().detach())
    assert torch.equal(drawn.forced, drawn.lengths == LIMIT)
    torch.testing.assert_close(drawn.log_prior_weight, even_weights(1, 10000))


def test_warmups_are_an_examples_own_whatever_its_batch(everything: Everything) -> None:
    encoded, noise = everything.copies(5)
    together = sample_warmups(everything.backbone, encoded, 3, LIMIT, noise)
    some = torch.tensor([3, 1])
    apart = sample_warmups(everything.backbone, encoded.select(some), 3, LIMIT, Noise(torch.arange(5)[some]))
    assert torch.equal(together.tokens[some], apart.tokens)


def assert_frequencies(found: torch.Tensor, probabilities: torch.Tensor) -> None:
    """Indices of warmups were drawn with these probabilities: each within 4.5 standard errors, what has none never."""
    total = found.numel()
    shares = found.flatten().bincount(minlength=len(probabilities)) / total
    possible = probabilities > 0
    assert not shares[~possible].any()
    deviation = (shares - probabilities)[possible] / (probabilities * (1 - probabilities) / total).sqrt()[possible]
    assert deviation.abs().max() < 4.5


def changed(logprob: list[float], temperature: float, top_p: float) -> list[float]:
    """A next token's probabilities at a temperature, cut to the fewest tokens that hold `top_p` of it."""
    shares = [math.exp(value / temperature) for value in logprob]
    shares = [share / sum(shares) for share in shares]
    kept: list[int] = []
    for index in sorted(range(len(shares)), key=lambda index: -shares[index]):
        kept.append(index)
        if sum(shares[index] for index in kept) >= top_p:
            break
    total = sum(shares[index] for index in kept)
    return [share / total if index in kept else 0.0 for index, share in enumerate(shares)]


def proposal_of(everything: Everything, temperature: float, top_p: float) -> torch.Tensor:
    """q(c) of every warmup, token by token."""
    words = [*ORDINARY, everything.backbone.separator_id]
    found = []
    for tokens, length, drawn_from in zip(
        everything.warmups.tokens[0].tolist(),
        everything.warmups.lengths[0].tolist(),
        everything.scores.drawn_from[0],
        strict=True,
    ):
        drawn = [*tokens[:length], everything.backbone.separator_id][: len(drawn_from)]
        steps = [changed(row, temperature, top_p) for row in drawn_from.tolist()]
        found.append(math.prod(step[words.index(token)] for step, token in zip(steps, drawn, strict=True)))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (2.0, 1.0), (1.0, 0.7), (1.7, 0.6)])
def test_a_proposal_is_drawn_from_and_made_up_for_by_weights(
    everything: Everything, temperature: float, top_p: float
) -> None:
    """q(c) of every warmup by hand; the sum of v_k f(c_k) then estimates the sum over all, or over the nucleus."""
    proposal = proposal_of(everything, temperature, top_p)
    assert proposal.sum().item() == pytest.approx(1)
    assert bool((proposal == 0).any()) == (top_p < 1)
    encoded, noise = everything.copies(DRAWS)
    drawn = sample_warmups(everything.backbone, encoded, 2, LIMIT, noise, Proposal(temperature, top_p))
    index = everything.index(drawn.tokens)
    assert_frequencies(index, proposal)
    exact = everything.scores.warmup_logprob[0].detach() - proposal.log() - math.log(2)
    torch.testing.assert_close(drawn.log_prior_weight, exact[index], rtol=0, atol=1e-5)


def test_without_replacement_draws_different_warmups_and_is_unbiased(everything: Everything) -> None:
    encoded, noise = everything.copies(DRAWS // 4)
    drawn = sample_without_replacement(everything.backbone, encoded, 3, LIMIT, noise)
    index = everything.index(drawn.tokens)
    assert all(len(set(row)) == 3 for row in index.tolist())
    again = sample_without_replacement(everything.backbone, encoded, 3, LIMIT, noise)  # the streams go on
    assert not torch.equal(again.tokens, drawn.tokens)
    torch.testing.assert_close(drawn.logprob, everything.scores.warmup_logprob[0].detach()[index], rtol=0, atol=1e-5)
    target = everything.scores.target_logprob[0].detach()[index]
    assert_unbiased(everything, log_likelihood(target, drawn.log_prior_weight).exp())
    # the largest perturbed value is an ordinary draw
    assert_frequencies(index[:, 0], everything.scores.warmup_logprob[0].detach().exp())


def test_weights_of_a_single_draw_without_replacement_are_one_on_average(everything: Everything) -> None:
    """The fewer the draws, the more the weights owe to the threshold's own distribution."""
    encoded, noise = everything.copies(600)
    share = sample_without_replacement(everything.backbone, encoded, 1, LIMIT, noise).log_prior_weight.exp()
    assert abs(share.mean() - 1) < 4 * share.std() / 600**0.5 < 0.3


def test_without_replacement_has_less_variance_than_independent_draws(everything: Everything) -> None:
    estimates = []
    for sampler in (sample_warmups, sample_without_replacement):
        encoded, noise = everything.copies(500)
        drawn = sampler(everything.backbone, encoded, 8, LIMIT, noise)
        target = everything.scores.target_logprob[0].detach()[everything.index(drawn.tokens)]
        estimates.append(log_likelihood(target, drawn.log_prior_weight).exp())
    assert estimates[1].var() < estimates[0].var()


def test_as_many_warmups_as_there_are_make_the_sum_exact(everything: Everything) -> None:
    encoded, noise = everything.copies(1)
    drawn = sample_without_replacement(everything.backbone, encoded, 15, LIMIT, noise)
    present = drawn.log_prior_weight > float("-inf")
    assert present.sum() == 13
    scores = score_warmups(everything.backbone, encoded, drawn, LABELS)
    estimate = log_likelihood(scores.target_logprob, drawn.log_prior_weight).item()
    assert estimate == pytest.approx(everything.log_likelihood().item(), abs=1e-6)


def shown(everything: Everything) -> list[list[int]]:
    """What q(c|x,y) reads: target, separator, source."""
    return [[7, 8, everything.backbone.separator_id, *everything.ids[0].tolist()]]


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_recognition_draws_half_from_the_prior_and_the_rest_from_the_proposal(
    everything: Everything, samples: int
) -> None:
    count, from_prior = 1200 // samples, samples // 2
    prior = everything.scores.warmup_logprob[0].detach().exp()
    learned = score(everything.backbone, shown(everything), everything.warmups, LABELS).warmup_logprob[0].detach().exp()
    assert (learned - prior).abs().sum() > 0.2  # or draws from the one would pass for draws from the other
    encoded, noise = everything.copies(count)
    method = WarmupMethod(num_samples=samples, max_warmup_tokens=LIMIT, sampler="recognition")
    labels = LABELS.expand(count, -1)
    proposal = Recognition.draw(everything.backbone, method, encoded, labels, noise)
    index = everything.index(proposal.warmups.tokens)
    if from_prior:
        assert_frequencies(index[:, :from_prior], prior)
    assert_frequencies(index[:, from_prior:], learned)
    torch.testing.assert_close(proposal.logprob, learned.log()[index], rtol=0, atol=1e-5)
    scores = score_warmups(everything.backbone, encoded, proposal.warmups, labels)
    weight = proposal.log_prior_weight(scores, slice(None))
    exact = prior.log() - (from_prior * prior + (samples - from_prior) * learned).log()
    torch.testing.assert_close(weight, exact[index], rtol=0, atol=1e-5)
    assert_unbiased(everything, log_likelihood(scores.target_logprob, weight).exp())


def test_a_recognition_proposal_learns_the_posterior(everything: Everything) -> None:
    backbone = everything.backbone
    encoded, noise = everything.copies(1)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, sampler="recognition")
    proposal = Recognition.draw(backbone, method, encoded, LABELS, noise)
    posterior = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    exact = score(backbone, shown(everything), proposal.warmups, LABELS).warmup_logprob
    loss = proposal.loss(backbone, posterior)
    assert loss.item() == 0  # what is logged stays an estimate of -log p(y|x)
    found, expected = gradient(loss, backbone.model), gradient(-(posterior * exact).sum(), backbone.model)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("samples", [3, 6])
def test_adaptive_spends_its_second_half_where_weights_are_uneven(backbone: Backbone, samples: int) -> None:
    method = WarmupMethod(num_samples=samples, max_warmup_tokens=batch.LIMIT, sampler="adaptive")
    encoded = backbone.family.encode(backbone.model, *batch.batch_of(backbone)).detach()
    found = warmup_step(backbone, method, encoded, batch.LABELS, batch.noise_of(backbone)).warmups
    noise, half = batch.noise_of(backbone), {3: 2, 6: 3}[samples]
    first = sample_warmups(backbone, encoded, half, batch.LIMIT, noise)
    weights = batch.scores_of(backbone, first).target_logprob.detach().softmax(-1)
    errors = (half * weights.square().sum(-1) - 1).sqrt().tolist()
    budget = 3 * (samples - half)
    shares = [budget * error / sum(errors) for error in errors]
    extra = [math.floor(share) for share in shares]
    for index in sorted(range(3), key=lambda index: extra[index] - shares[index])[: budget - sum(extra)]:
        extra[index] += 1
    more = sample_warmups(backbone, encoded, max(extra), batch.LIMIT, noise)  # the streams go on
    for row, count in enumerate(extra):
        for name in ("tokens", "lengths", "forced"):
            expected = torch.cat([getattr(first, name)[row], getattr(more, name)[row, :count]])
            assert torch.equal(getattr(found, name)[row, : half + count], expected), name
        kept = [-math.log(half + count)] * (half + count)
        assert found.log_prior_weight[row].tolist() == pytest.approx(kept + [-math.inf] * (max(extra) - count))


def test_noise_is_uniform_and_differs_between_inputs_steps_and_calls() -> None:
    noise = Noise(torch.arange(50))
    first, second = noise.uniform(400), noise.uniform(400)
    values = torch.cat([first, second]).flatten()
    assert values.min() > 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 4 / (12 * len(values)) ** 0.5
    assert abs(values.var() - 1 / 12) < 0.002
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([first[:-1].flatten(), first[1:].flatten()]))[0, 1]) < 0.03


def test_selected_warmups_stand_for_equal_shares(everything: Everything) -> None:
    found = everything.warmups.select(torch.tensor([[3, 0], [5, 5]]), torch.tensor([0, 0]))
    for name in ("tokens", "lengths", "forced"):
        rows = getattr(everything.warmups, name)[0].tolist()
        assert getattr(found, name).tolist() == [[rows[3], rows[0]], [rows[5], rows[5]]]
    assert found.log_prior_weight.exp().flatten().tolist() == pytest.approx([0.5] * 4)


def test_seeds_depend_on_example_seed_and_step_but_not_on_padding() -> None:
    ids, mask = torch.tensor([[5, 6, 7], [5, 6, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[8, 1], [8, 1]])
    seeds = input_seeds(1, 2, ids, mask, labels)
    assert seeds[0] != seeds[1]
    left = input_seeds(1, 2, torch.tensor([[0, 0, 5, 6]]), torch.tensor([[0, 0, 1, 1]]), torch.tensor([[8, 1, -100]]))
    assert left[0] == seeds[1]
    others = [input_seeds(seed, step, ids, mask, labels) for seed, step in ((3, 2), (1, 3), (2, 1), (0, 3), (2, 2))]
    others += [input_seeds(1, 2, ids, mask, labels + 1), input_seeds(1, 2, ids, mask, labels - 1)]
    others.append(input_seeds(1, 2, ids, mask, torch.cat([labels, labels * 0], dim=1)))  # token 0 is one as well
    assert all((other != seeds).all() for other in others)
    assert input_seeds(1, 2, torch.tensor([[6, 5]]), mask[:1, :2], labels[:1])[0] != left[0]
    swapped = input_seeds(1, 2, labels, torch.ones_like(labels), ids)  # source and target are not one sequence
    assert not {*swapped.tolist()} & {*input_seeds(1, 2, ids, torch.ones_like(ids), labels).tolist()}


def test_warmups_change_with_seed_and_step(everything: Everything) -> None:
    """And are the same again for the same ones."""
    encoded, _ = everything.copies(20)
    ids, mask = everything.ids.expand(20, -1), everything.mask.expand(20, -1)
    labels = torch.stack([torch.arange(20) + 5, torch.ones(20, dtype=torch.long)], dim=1)

    def drawn(seed: int, step: int) -> torch.Tensor:
        return sample_warmups(
            everything.backbone, encoded, 2, LIMIT, Noise(input_seeds(seed, step, ids, mask, labels))
        ).tokens

    assert torch.equal(drawn(1, 2), drawn(1, 2))
    assert not any(torch.equal(drawn(1, 2), drawn(*other)) for other in ((1, 3), (2, 2), (2, 1)))
    assert (drawn(1, 2) != drawn(1, 2)[:1]).any()  # inputs differ in their targets alone


def test_inversion_draws_every_token_with_its_probability() -> None:
    logprob = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).log()
    grid = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = invert(logprob.double().exp().expand(1000, -1), grid).bincount(minlength=4)
    assert counts.tolist() == [500, 0, 300, 200]


@pytest.mark.parametrize("excess", [1e-15, 1e-13, 1e-6, 0.05, 1.0, 30.0])
def test_a_warmup_stands_for_its_probability_over_that_of_being_drawn(excess: float) -> None:
    """Kool et al., equation 12: log p - log(1 - exp(-exp(log p - kappa)))."""
    logprob = torch.tensor([[math.log(0.3), float("-inf")]], dtype=torch.float64)
    found = without_replacement._prior_weight(logprob, logprob[:, :1] - math.log(excess))
    assert found[0, 0].item() == pytest.approx(math.log(0.3) - math.log(-math.expm1(-excess)), abs=1e-9)
    assert found[0, 1] == float("-inf")
