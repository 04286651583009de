"""Every sampler against enumeration: what it draws, and what its weights make of the draws."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ARCHITECTURES
from tests.methods.enumeration import LABELS, LIMIT, Everything, gradient, sharpen
from warmup.config.schema import WarmupMethod
from warmup.methods.naive import naive_scores
from warmup.methods.noise import Noise, input_seeds, invert
from warmup.methods.objective import log_likelihood, posterior_weights
from warmup.methods.recognition import Recognition, shown_target
from warmup.methods.sampling import sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.methods.without_replacement import sample_without_replacement

DRAWS = 3000


@pytest.fixture(params=ARCHITECTURES)
def everything(request: pytest.FixtureRequest, make_backbone) -> Everything:
    return Everything.of(sharpen(make_backbone(request.param), request.param))


def assert_unbiased(everything: Everything, estimates: torch.Tensor, expected: float | None = None) -> None:
    """The mean of independent estimates [N] of p(y|x) is within four standard errors of the exact value."""
    exact = everything.log_likelihood().exp().item() if expected is None else expected
    error = estimates.std().item() / len(estimates) ** 0.5
    assert abs(estimates.mean().item() - exact) <= 4 * error + 1e-9 * exact
    assert error < 0.2 * exact  # or the check would say little


def test_sampled_warmups_follow_their_scored_probabilities(everything: Everything) -> None:
    encoded, noise = everything.copies(1)
    drawn = sample_warmups(everything.backbone, encoded, 20000, LIMIT, noise)
    probabilities = everything.scores.warmup_logprob[0].exp().detach()
    counts = everything.index(drawn.tokens[0]).bincount(minlength=len(probabilities))
    deviation = ((counts / 20000 - probabilities) / (probabilities * (1 - probabilities) / 20000).sqrt()).abs()
    assert deviation.max() < 4.5
    assert torch.equal(drawn.forced, drawn.lengths == LIMIT)


def test_warmups_are_an_examples_own_whatever_its_batch(everything: Everything) -> None:
    encoded, noise = everything.copies(5)
    together = sample_warmups(everything.backbone, encoded, 3, LIMIT, noise)
    some = torch.tensor([3, 1])
    apart = sample_warmups(everything.backbone, encoded.select(some), 3, LIMIT, Noise(torch.arange(5)[some]))
    assert torch.equal(together.tokens[some], apart.tokens)


@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_another_temperature_is_made_up_for_by_weights(everything: Everything, temperature: float) -> None:
    encoded, noise = everything.copies(DRAWS)
    drawn = sample_warmups(everything.backbone, encoded, 2, LIMIT, noise, temperature)
    target = everything.scores.target_logprob[0].detach()[everything.index(drawn.tokens)]
    assert_unbiased(everything, log_likelihood(target, drawn.log_prior_weight).exp())


def test_a_nucleus_estimates_the_sum_over_itself(everything: Everything) -> None:
    encoded, noise = everything.copies(DRAWS)
    drawn = sample_warmups(everything.backbone, encoded, 2, LIMIT, noise, 1.0, 0.7)
    index = everything.index(drawn.tokens)
    inside = index.unique()
    assert len(inside) < everything.warmups.count
    joint = (everything.scores.warmup_logprob + everything.scores.target_logprob)[0].detach().exp()
    target = everything.scores.target_logprob[0].detach()[index]
    assert joint[inside].sum() < joint.sum()
    assert_unbiased(everything, log_likelihood(target, drawn.log_prior_weight).exp(), joint[inside].sum().item())


def test_without_replacement_draws_different_warmups_and_is_unbiased(everything: Everything) -> None:
    encoded, noise = everything.copies(DRAWS // 3)
    drawn = sample_without_replacement(everything.backbone, encoded, 3, LIMIT, noise)
    index = everything.index(drawn.tokens)
    assert all(len(set(row)) == 3 for row in index.tolist())
    torch.testing.assert_close(drawn.logprob, everything.scores.warmup_logprob[0].detach()[index], rtol=0, atol=1e-5)
    target = everything.scores.target_logprob[0].detach()[index]
    assert_unbiased(everything, log_likelihood(target, drawn.log_prior_weight).exp())
    first = index[:, 0].bincount(minlength=13) / len(index)  # the largest perturbed value is an ordinary draw
    probability = everything.scores.warmup_logprob[0].detach().exp()
    assert ((first - probability) / (probability / len(index)).sqrt()).abs().max() < 4.5


def test_without_replacement_has_less_variance_than_independent_draws(everything: Everything) -> None:
    estimates = []
    for sampler in (sample_warmups, sample_without_replacement):
        encoded, noise = everything.copies(1000)
        drawn = sampler(everything.backbone, encoded, 6, LIMIT, noise)
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


def test_a_recognition_proposal_is_unbiased_and_learns_the_posterior(everything: Everything) -> None:
    backbone, count = everything.backbone, 600
    encoded, noise = everything.copies(count)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, sampler="recognition")
    proposal = Recognition.draw(backbone, method, encoded, LABELS.expand(count, -1), noise)
    scores = score_warmups(backbone, encoded, proposal.warmups, LABELS.expand(count, -1))
    weight = proposal.log_prior_weight(scores, slice(None))
    assert weight.max() <= -torch.tensor(2.0).log() + 1e-9  # two draws from the prior bound every weight
    assert_unbiased(everything, log_likelihood(scores.target_logprob, weight).exp())

    one = everything.copies(1)
    proposal = Recognition.draw(backbone, method, one[0], LABELS, one[1])
    posterior = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    shown = shown_target(backbone, one[0], LABELS)
    exact = naive_scores(backbone, shown.ids, shown.mask, proposal.warmups, LABELS).warmup_logprob
    torch.testing.assert_close(proposal.logprob, exact.detach(), rtol=0, atol=1e-5)
    found = gradient(proposal.loss(backbone, posterior), backbone.model)
    expected = gradient(-(posterior * exact).sum(), backbone.model)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert posterior_weights(scores.target_logprob, weight).sum(-1).allclose(torch.ones(count, dtype=torch.float64))


def test_noise_is_uniform_and_differs_between_inputs_steps_and_calls() -> None:
    noise = Noise(torch.arange(50))
    first, second = noise.uniform(400), noise.uniform(400)
    values = torch.cat([first, second]).flatten()
    assert values.min() > 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 4 / (12 * len(values)) ** 0.5
    assert abs(values.var() - 1 / 12) < 0.002
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([first[:-1].flatten(), first[1:].flatten()]))[0, 1]) < 0.03


def test_seeds_depend_on_example_seed_and_step_but_not_on_padding() -> None:
    ids, mask = torch.tensor([[5, 6, 7], [5, 6, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[8, 1], [8, 1]])
    seeds = input_seeds(1, 2, ids, mask, labels)
    assert seeds[0] != seeds[1]
    left = input_seeds(1, 2, torch.tensor([[0, 0, 5, 6]]), torch.tensor([[0, 0, 1, 1]]), torch.tensor([[8, 1, -100]]))
    assert left[0] == seeds[1]
    others = [input_seeds(3, 2, ids, mask, labels), input_seeds(1, 3, ids, mask, labels)]
    others.append(input_seeds(1, 2, ids, mask, labels + 1))
    assert all((other != seeds).all() for other in others)
    assert input_seeds(1, 2, torch.tensor([[6, 5]]), mask[:1, :2], labels[:1])[0] != left[0]


def test_inversion_draws_every_token_with_its_probability() -> None:
    logprob = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).log()
    grid = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = invert(logprob.double().exp().expand(1000, -1), grid).bincount(minlength=4)
    assert counts.tolist() == [500, 0, 300, 200]
