"""The objectives against brute-force enumeration of every warmup, and their parts against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.conftest import ARCHITECTURES
from tests.methods.enumeration import LABELS, LIMIT, Everything, sharpen
from warmup.methods.objective import (
    Coefficients,
    allocate,
    baseline_weights,
    coefficients,
    effective_sample_size,
    log_likelihood,
    posterior_weights,
    resampled,
    surrogate_loss,
)
from warmup.methods.sampling import even_weights, sample_warmups
from warmup.methods.scoring import read_warmups, weigh_read


@pytest.fixture(params=ARCHITECTURES)
def everything(request: pytest.FixtureRequest, make_backbone) -> Everything:
    return Everything.of(sharpen(make_backbone(request.param), request.param))


def even(logprob: Tensor) -> Tensor:
    return even_weights(*logprob.shape)


def pairs_of(everything: Everything) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of warmups [P, 2], its probability [P] with gradient, and its target log-probabilities [P, 2]."""
    warmup, target = everything.scores.warmup_logprob[0], everything.scores.target_logprob[0]
    pairs = torch.cartesian_prod(torch.arange(len(warmup)), torch.arange(len(warmup)))
    return pairs, warmup[pairs].sum(-1).exp(), target[pairs]


def expectation(everything: Everything, objective: str, baseline: str = "mean") -> Tensor:
    """The estimator's exact expected gradient at K = 2."""
    pairs, probability, target = pairs_of(everything)
    parts = coefficients(objective, target, even(target), baseline)
    sums = torch.zeros(2, everything.warmups.count, dtype=torch.float64)
    for row, values in enumerate((parts.target, parts.warmup)):
        sums[row].index_add_(0, pairs.flatten(), (probability.detach()[:, None] * values).flatten())
    return everything.combine(*sums)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_probabilities_of_all_warmups_sum_to_one(everything: Everything) -> None:
    assert everything.warmups.count == 1 + 3 + 9
    assert everything.scores.warmup_logprob.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_exact_posterior_weights_give_the_exact_gradient(everything: Everything) -> None:
    posterior = (everything.scores.warmup_logprob + everything.scores.target_logprob).softmax(-1)[0]
    assert_equal(everything.combine(posterior, posterior), everything.gradient(everything.log_likelihood()))


def test_all_warmups_with_their_prior_weights_are_exact(everything: Everything) -> None:
    """`marginal` on all warmups, each standing for its own probability: the value and the gradient are exact."""
    scores = everything.scores
    prior = scores.warmup_logprob.detach()
    for baseline in ("mean", "none"):
        parts = coefficients("marginal", scores.target_logprob, prior, baseline)
        assert parts.value.item() == pytest.approx(everything.log_likelihood().item(), abs=1e-9)
        loss = surrogate_loss(scores.target_logprob, scores.warmup_logprob, parts).sum()
        assert_equal(-everything.gradient(loss), everything.gradient(everything.log_likelihood()))


def test_monte_carlo_converges_to_the_exact_likelihood_and_gradient(everything: Everything) -> None:
    exact = everything.log_likelihood()
    expected = everything.gradient(exact)
    backbone, errors = everything.backbone, []
    for count in (8, 4096):
        encoded = backbone.family.encode(backbone.model, everything.ids, everything.mask)
        _, noise = everything.copies(1)
        warmups = sample_warmups(backbone, encoded, count, LIMIT, noise)

        def loss(totals, inputs):
            parts = coefficients("marginal", totals.target_logprob, even(totals.target_logprob))
            return surrogate_loss(totals.target_logprob, totals.warmup_logprob, parts)

        value, _ = weigh_read(backbone, read_warmups(backbone, encoded, warmups, LABELS), loss)
        found = -everything.gradient(value)
        errors.append(((found - expected).norm() / expected.norm()).item())
    assert value.item() == pytest.approx(-exact.item(), abs=0.05)
    assert errors[1] < 0.1
    assert errors[1] < errors[0]


@pytest.mark.parametrize("kind", ["mean", "loo"])
def test_baselines_leave_the_expected_gradient_alone(everything: Everything, kind: str) -> None:
    without = expectation(everything, "marginal", "none")
    assert (expectation(everything, "marginal", kind) - without).norm() < 1e-5 * without.norm()


def test_elbo_has_the_gradient_of_the_expected_log_likelihood(everything: Everything) -> None:
    bound = (everything.scores.warmup_logprob.exp() * everything.scores.target_logprob).sum()
    assert_equal(expectation(everything, "elbo"), everything.gradient(bound))


def test_vimco_has_the_gradient_of_the_two_sample_bound(everything: Everything) -> None:
    _, probability, target = pairs_of(everything)
    bound = (probability * (target.logsumexp(-1) - math.log(2))).sum()
    assert_equal(expectation(everything, "vimco"), everything.gradient(bound))


@pytest.mark.parametrize("baseline", ["mean", "loo", "none"])
def test_resampling_has_the_expectation_of_marginal(baseline: str) -> None:
    """Over a fine grid of uniform numbers, which is what they are drawn from."""
    target = torch.tensor([[-2.0, -1.0, -5.0, -1.5]], dtype=torch.float64)
    weights = posterior_weights(target, even(target))
    compared = baseline_weights(target, even(target), baseline)
    grid = (torch.arange(800, dtype=torch.float64) + 0.5) / 800
    numbers = torch.cartesian_prod(grid, grid)
    chosen, other, factor = resampled(weights.expand(len(numbers), -1), compared.expand(len(numbers), -1), numbers)
    even_share = torch.full((len(numbers),), 1 / len(numbers), dtype=torch.float64)
    learnt = torch.zeros(4, dtype=torch.float64).index_add_(0, chosen, even_share)
    subtracted = torch.zeros(4, dtype=torch.float64).index_add_(0, other, factor * even_share)
    torch.testing.assert_close(learnt, weights[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(subtracted, compared[0], rtol=0, atol=2e-3)
    if baseline != "none":  # as often the same warmup as two such draws can be
        distance = (weights - compared / compared.sum()).abs().sum() / 2
        assert (chosen != other).double().mean() == pytest.approx(distance.item(), abs=4e-3)


def test_weights_are_the_softmax_of_target_likelihoods() -> None:
    logprob = torch.tensor([[-1.0, -2.0, -4.0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 2.718281828**-1, 2.718281828**-3]], dtype=torch.float64)
    torch.testing.assert_close(posterior_weights(logprob, even(logprob)), expected / expected.sum(), rtol=1e-8, atol=0)
    flatter = posterior_weights(logprob, even(logprob), temperature=10.0)
    assert flatter.max() < posterior_weights(logprob, even(logprob)).max()
    assert not posterior_weights(logprob.requires_grad_(), even(logprob)).requires_grad


def test_loo_baseline_ignores_its_own_sample() -> None:
    base = torch.tensor([[-3.0, -5.0, -4.0]])
    moved = torch.tensor([[-30.0, -5.0, -4.0]])
    before, after = (baseline_weights(part, even(part), "loo") for part in (base, moved))
    assert before[0, 0] == pytest.approx(after[0, 0].item())
    assert before[0, 1] != pytest.approx(after[0, 1].item())
    others = torch.tensor([-4.5, -5.0, -4.0]).softmax(0)[0]
    assert before[0, 0].item() == pytest.approx(others.item())


@pytest.mark.parametrize("objective", ["marginal", "vimco", "elbo"])
def test_one_warmup_trains_the_target_alone(objective: str) -> None:
    parts = coefficients(objective, torch.tensor([[-2.0]]), torch.zeros(1, 1))
    assert parts.target.item() == 1.0
    assert parts.warmup.item() == 0.0


def test_marginal_gradient_is_the_documented_one() -> None:
    target = torch.tensor([[-2.0, -1.0, -5.0]], dtype=torch.float64, requires_grad=True)
    warmup = torch.tensor([[-3.0, -2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    loss = surrogate_loss(target, warmup, coefficients("marginal", target, even(target)))
    loss.sum().backward()
    weights = torch.softmax(target.detach(), -1)
    torch.testing.assert_close(target.grad, -weights)
    torch.testing.assert_close(warmup.grad, -(weights - 1 / 3))
    assert loss.item() == pytest.approx(-(target.exp().mean().log()).item())


@pytest.mark.parametrize("objective", ["marginal", "vimco", "elbo"])
def test_impossible_likelihoods_make_no_nan(objective: str) -> None:
    lowest = float("-inf")
    target = torch.tensor([[-5000.0, -5000.5], [lowest, -3.0], [lowest, lowest]], requires_grad=True)
    warmup = torch.tensor([[-10.0, -20.0], [lowest, -1.0], [-1.0, -2.0]], requires_grad=True)
    loss = surrogate_loss(target, warmup, coefficients(objective, target, even(target)))
    loss.sum().backward()
    assert not loss.isnan().any() and target.grad.isfinite().all() and warmup.grad.isfinite().all()
    assert torch.equal(posterior_weights(target, even(target))[1], torch.tensor([0.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("baseline", ["mean", "loo", "none"])
@pytest.mark.parametrize("objective", ["marginal", "vimco", "elbo"])
def test_an_empty_slot_changes_nothing(objective: str, baseline: str) -> None:
    target = torch.tensor([[-2.0, -1.0, -5.0]], dtype=torch.float64)
    wider = torch.tensor([[-2.0, -1.0, -5.0, -0.1]], dtype=torch.float64)
    weight = torch.cat([even(target), torch.tensor([[float("-inf")]])], dim=1)
    plain = coefficients(objective, target, even(target), baseline)
    padded = coefficients(objective, wider, weight, baseline)
    for name in ("target", "warmup"):
        values = getattr(padded, name)
        torch.testing.assert_close(values[:, :3], getattr(plain, name))
        assert values[0, 3] == 0
    assert padded.value.item() == pytest.approx(plain.value.item())


def test_effective_sample_size_runs_from_one_to_k() -> None:
    weights = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(effective_sample_size(weights), torch.tensor([4.0, 1.0]))
    same = torch.full((1, 4), -2.0)
    assert log_likelihood(same, even(same)).item() == pytest.approx(-2.0)


def test_the_rest_of_the_budget_goes_where_weights_are_uneven() -> None:
    target = torch.tensor([[-1.0, -1.0], [-1.0, -9.0], [-1.0, -2.0]])
    extra = allocate(target, 7)
    assert extra.sum() == 7
    assert extra[1] > extra[2] > extra[0] == 0
    assert allocate(torch.zeros(3, 2), 7).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_bfloat16_likelihoods_are_weighed_in_float32_at_least() -> None:
    logprob = torch.tensor([[-100.0, -100.5]], dtype=torch.bfloat16)
    assert posterior_weights(logprob, even(logprob).float()).dtype == torch.float32
    assert isinstance(coefficients("marginal", logprob, even(logprob)), Coefficients)
