"""The objectives against brute-force enumeration of every warmup, and their parts against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.conftest import ARCHITECTURES
from tests.methods.enumeration import LABELS, LIMIT, Everything, sharpen
from warmup.config.schema import WarmupMethod
from warmup.methods.objective import (
    OBJECTIVES,
    Coefficients,
    Scored,
    allocate,
    baseline_weights,
    coefficients,
    effective_sample_size,
    log_likelihood,
    posterior_weights,
    prior_weights,
    resampled,
    surrogate_loss,
)
from warmup.methods.sampling import even_weights, sample_warmups
from warmup.methods.scoring import read_warmups, weigh_read
from warmup.methods.warmup import warmup_step


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


def reinforce(scored: Scored) -> Coefficients:
    """An objective as docs/architecture.md has one added: that of `elbo`, without anything to compare with."""
    prior = prior_weights(scored.log_prior_weight)
    weighted = prior * scored.target_logprob
    return Coefficients(prior, weighted, weighted.sum(-1))


def test_an_objective_is_a_function_and_a_row(everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "reinforce", reinforce)
    bound = (everything.scores.warmup_logprob.exp() * everything.scores.target_logprob).sum()
    assert_equal(expectation(everything, "reinforce"), everything.gradient(bound))
    backbone, (encoded, noise) = everything.backbone, everything.copies(1)
    method = WarmupMethod(num_samples=3, max_warmup_tokens=LIMIT, objective="reinforce", entropy_coef=0.0)
    step = warmup_step(backbone, method, encoded, LABELS, noise)
    assert step.loss.item() == pytest.approx(-step.target_logprob.mean().item(), abs=1e-6)


def test_the_table_is_what_a_method_may_have() -> None:
    assert {*OBJECTIVES, "resample"} == set(WarmupMethod.__dataclass_fields__["objective"].metadata["choices"])


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


def test_temperature_divides_likelihoods_and_leaves_prior_weights_alone() -> None:
    target = torch.tensor([[-1.0, -2.0, -4.0]], dtype=torch.float64)
    share = torch.tensor([[0.2, 0.5, 0.1]], dtype=torch.float64)
    parts = [0.2 * math.exp(-0.5), 0.5 * math.exp(-1.0), 0.1 * math.exp(-2.0)]
    found = coefficients("marginal", target, share.log(), "mean", 2.0)
    assert found.target[0].tolist() == pytest.approx([part / sum(parts) for part in parts])
    differences = [part / sum(parts) - prior for part, prior in zip(parts, (2 / 8, 5 / 8, 1 / 8), strict=True)]
    assert found.warmup[0].tolist() == pytest.approx(differences)
    value = math.log(0.2 * math.exp(-1.0) + 0.5 * math.exp(-2.0) + 0.1 * math.exp(-4.0))
    assert found.value.item() == pytest.approx(value)  # the likelihood has no temperature


def test_loo_baseline_by_hand() -> None:
    """Each warmup's weight as if its likelihood were the mean of the others', weighed by their prior weights."""
    target = torch.tensor([[-3.0, -5.0, -4.0]], dtype=torch.float64)
    share = torch.tensor([[0.5, 0.1, 0.3]], dtype=torch.float64)

    def weight(logprob: list[float], own: int, shares: list[float], temperature: float) -> float:
        parts = [v * math.exp(one / temperature) for v, one in zip(shares, logprob, strict=True)]
        return parts[own] / sum(parts)

    for temperature in (1.0, 3.0):
        third = [1 / 3] * 3
        replaced = [[-4.5, -5.0, -4.0], [-3.0, -3.5, -4.0], [-3.0, -5.0, -4.0]]
        expected = [weight(row, own, third, temperature) for own, row in enumerate(replaced)]
        found = baseline_weights(target, even(target), "loo", temperature)
        assert found[0].tolist() == pytest.approx(expected)
        shares = [0.5, 0.1, 0.3]
        replaced = [[-4.25, -5.0, -4.0], [-3.0, -3.375, -4.0], [-3.0, -5.0, -10 / 3]]
        expected = [weight(row, own, shares, temperature) for own, row in enumerate(replaced)]
        found = baseline_weights(target, share.log(), "loo", temperature)
        assert found[0].tolist() == pytest.approx(expected)


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


def test_the_rest_of_the_budget_is_allocated_by_standard_errors() -> None:
    """Weights (w, 1 - w) have a standard error of |2 w - 1| relative to their mean: here 1/2, 1/4 and 0."""
    target = torch.tensor([[0.75, 0.25], [0.375, 0.625], [0.5, 0.5]]).double().log() - 3
    assert allocate(target, 6).tolist() == [4, 2, 0]
    assert allocate(target, 7).tolist() == [5, 2, 0]  # of 4 2/3 and 2 1/3
    assert allocate(target, 8).tolist() == [5, 3, 0]  # of 5 1/3 and 2 2/3
    assert allocate(target, 0).tolist() == [0, 0, 0]
    assert allocate(target[[2, 0, 1]], 7).tolist() == [0, 5, 2]
    three = torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.2, 0.2]]).double().log()  # sqrt(3 * 0.375 - 1), sqrt(3 * 0.44 - 1)
    assert allocate(three, 100).tolist() == [38, 62]  # 0.3536 : 0.5657
    assert sorted(allocate(torch.zeros(3, 2), 7).tolist()) == [2, 2, 3]


def test_bfloat16_likelihoods_are_weighed_in_float32_at_least() -> None:
    logprob = torch.tensor([[-100.0, -100.5]], dtype=torch.bfloat16)
    assert posterior_weights(logprob, even(logprob).float()).dtype == torch.float32
    assert isinstance(coefficients("marginal", logprob, even(logprob)), Coefficients)
