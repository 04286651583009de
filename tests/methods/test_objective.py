"""The objective against brute-force enumeration of every warmup, and its parts against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import ARCHITECTURES
from tests.methods.enumeration import every_warmup, exact_log_likelihood
from warmup.methods.objective import (
    baseline_weights,
    effective_sample_size,
    log_likelihood,
    marginal_loss,
    posterior_weights,
    surrogate_loss,
)
from warmup.methods.sampling import sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.models.encoding import source_batch
from warmup.models.families import Encoded
from warmup.models.loading import Backbone

LABELS = torch.tensor([[7, 8, 1]])
LIMIT = 2
SHARPNESS = {"t5": 2.0, "mt5": 0.2, "llama": 5.0}  # of the fresh model's output layer: warmups matter, none rules
ORDINARY = [260, 261, 262]  # the only tokens that a warmup may hold: with the separator a vocabulary of four


@pytest.fixture(params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, make_backbone, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A float64 model whose warmups are made of three tokens; sharpened, so that they matter."""
    backbone = make_backbone(request.param)
    backbone.model.double()
    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.mul_(SHARPNESS[request.param])
    forbidden = torch.ones(backbone.model.config.vocab_size, dtype=torch.bool)
    forbidden[[*ORDINARY, backbone.separator_id]] = False
    monkeypatch.setattr(Backbone, "never_in_warmup", property(lambda _: forbidden))
    return backbone


def encode(backbone: Backbone) -> Encoded:
    batch = source_batch(backbone, [[265, 270, 268, backbone.separator_id]])
    return backbone.family.encode(backbone.model, batch["input_ids"], batch["attention_mask"])


def gradient(value: Tensor, model: nn.Module) -> Tensor:
    parts = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, retain_graph=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(model.parameters(), parts, strict=True)
        ]
    )


def test_probabilities_of_all_warmups_sum_to_one(tiny: Backbone) -> None:
    warmups = every_warmup(ORDINARY, LIMIT, tiny.tokenizer.pad_token_id)
    scores = score_warmups(tiny, encode(tiny), warmups, LABELS)
    assert warmups.tokens.shape[1] == 1 + 3 + 9
    assert scores.warmup_logprob.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_exact_posterior_weights_give_the_exact_gradient(tiny: Backbone) -> None:
    warmups = every_warmup(ORDINARY, LIMIT, tiny.tokenizer.pad_token_id)
    exact, scores = exact_log_likelihood(tiny, encode(tiny), warmups, LABELS)
    expected = gradient(-exact.sum(), tiny.model)
    scores = score_warmups(tiny, encode(tiny), warmups, LABELS)
    posterior = (scores.warmup_logprob + scores.target_logprob).softmax(-1)
    loss = surrogate_loss(scores.target_logprob, scores.warmup_logprob, posterior, posterior)
    torch.testing.assert_close(
        gradient(loss.sum(), tiny.model), expected, rtol=0, atol=1e-9 * expected.abs().max().item()
    )


def test_monte_carlo_converges_to_the_exact_likelihood_and_gradient(tiny: Backbone) -> None:
    warmups = every_warmup(ORDINARY, LIMIT, tiny.tokenizer.pad_token_id)
    exact, _ = exact_log_likelihood(tiny, encode(tiny), warmups, LABELS)
    expected = gradient(-exact.sum(), tiny.model)
    errors = []
    for count in (8, 4096):
        scores = score_warmups(tiny, encode(tiny), sample_warmups(tiny, encode(tiny), count, LIMIT), LABELS)
        loss = marginal_loss(scores.target_logprob, scores.warmup_logprob)
        found = gradient(loss.sum(), tiny.model)
        errors.append(((found - expected).norm() / expected.norm()).item())
    assert loss.item() == pytest.approx(-exact.item(), abs=0.05)
    assert errors[1] < 0.1
    assert errors[1] < errors[0]


def test_sampled_warmups_follow_their_scored_probabilities(tiny: Backbone) -> None:
    everything = every_warmup(ORDINARY, LIMIT, tiny.tokenizer.pad_token_id)
    probabilities = score_warmups(tiny, encode(tiny), everything, LABELS).warmup_logprob.exp()[0]
    drawn = sample_warmups(tiny, encode(tiny), 20000, LIMIT)
    seen = {tuple(row): index for index, row in enumerate(everything.tokens[0].tolist())}
    counts = torch.zeros_like(probabilities)
    for row in drawn.tokens[0].tolist():
        counts[seen[tuple(row)]] += 1
    deviation = ((counts / 20000 - probabilities) / (probabilities * (1 - probabilities) / 20000).sqrt()).abs()
    assert deviation.max() < 4.5
    assert torch.equal(drawn.forced, drawn.lengths == LIMIT)


@pytest.mark.parametrize("kind", ["mean", "loo"])
def test_baselines_leave_the_expected_gradient_alone(tiny: Backbone, kind: str) -> None:
    """E[b_k grad s_k] = 0, computed exactly: over every pair of warmups (K = 2), weighted by its probability."""
    scores = score_warmups(tiny, encode(tiny), every_warmup(ORDINARY, LIMIT, tiny.tokenizer.pad_token_id), LABELS)
    warmup, target = scores.warmup_logprob[0], scores.target_logprob[0]
    pairs = torch.cartesian_prod(torch.arange(len(warmup)), torch.arange(len(warmup)))
    probability = warmup[pairs].sum(-1, keepdim=True).exp().detach()
    with_baseline = (probability * baseline_weights(target[pairs], kind) * warmup[pairs]).sum()
    with_weights = (probability * posterior_weights(target[pairs]) * warmup[pairs]).sum()
    zero, signal = (gradient(value, tiny.model).norm() for value in (with_baseline, with_weights))
    assert zero < 1e-5 * signal  # float32 parts inside the models set the floor


def test_weights_are_the_softmax_of_target_likelihoods() -> None:
    logprob = torch.tensor([[-1.0, -2.0, -4.0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 2.718281828**-1, 2.718281828**-3]], dtype=torch.float64)
    torch.testing.assert_close(posterior_weights(logprob), expected / expected.sum(), rtol=1e-8, atol=0)
    flatter = posterior_weights(logprob, temperature=10.0)
    assert flatter.max() < posterior_weights(logprob).max()
    assert not posterior_weights(logprob.requires_grad_()).requires_grad


def test_loo_baseline_ignores_its_own_sample() -> None:
    base = torch.tensor([[-3.0, -5.0, -4.0]])
    moved = torch.tensor([[-30.0, -5.0, -4.0]])
    before, after = baseline_weights(base, "loo"), baseline_weights(moved, "loo")
    assert before[0, 0] == pytest.approx(after[0, 0].item())
    assert before[0, 1] != pytest.approx(after[0, 1].item())
    others = torch.tensor([-4.5, -5.0, -4.0]).softmax(0)[0]
    assert before[0, 0].item() == pytest.approx(others.item())


def test_one_warmup_trains_the_target_alone() -> None:
    target = torch.tensor([[-2.0]], requires_grad=True)
    warmup = torch.tensor([[-3.0]], requires_grad=True)
    marginal_loss(target, warmup).sum().backward()
    assert target.grad.item() == -1.0
    assert warmup.grad.item() == 0.0


def test_marginal_gradient_is_the_documented_one() -> None:
    target = torch.tensor([[-2.0, -1.0, -5.0]], dtype=torch.float64, requires_grad=True)
    warmup = torch.tensor([[-3.0, -2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    loss = marginal_loss(target, warmup)
    loss.sum().backward()
    weights = torch.softmax(target.detach(), -1)
    torch.testing.assert_close(target.grad, -weights)
    torch.testing.assert_close(warmup.grad, -(weights - 1 / 3))
    assert loss.item() == pytest.approx(-(target.exp().mean().log()).item())


def test_extreme_likelihoods_stay_numbers() -> None:
    target = torch.tensor([[-5000.0, -5000.5], [-1e9, -3.0]], requires_grad=True)
    warmup = torch.tensor([[-10.0, -20.0], [-1e9, -1.0]], requires_grad=True)
    loss = marginal_loss(target, warmup)
    loss.sum().backward()
    assert loss.isfinite().all() and target.grad.isfinite().all() and warmup.grad.isfinite().all()


def test_effective_sample_size_runs_from_one_to_k() -> None:
    weights = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(effective_sample_size(weights), torch.tensor([4.0, 1.0]))
    assert log_likelihood(torch.full((1, 4), -2.0)).item() == pytest.approx(-2.0)


def test_bfloat16_likelihoods_are_weighed_in_float32() -> None:
    logprob = torch.tensor([[-100.0, -100.5]], dtype=torch.bfloat16)
    assert posterior_weights(logprob).dtype == torch.float32
