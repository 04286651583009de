"""scripts/estimator_variance.py: the estimates it measures are the engine's, and its figures are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.warmup import warmup_step
from warmup.studies.estimator_variance.comparison import MEASURED_OBJECTIVES, SAMPLERS, method_of
from warmup.studies.estimator_variance.estimates import drawn_and_scored, estimates, estimation_errors
from warmup.studies.estimator_variance.problem import WARMUPS, Problem, teach, tiny_backbone, with_exact_gradients

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def problem() -> Problem:
    torch.set_num_threads(1)
    backbone = tiny_backbone()
    teach(backbone, 10)
    return with_exact_gradients(backbone)


def squared_norm(problem: Problem, method: WarmupMethod) -> float:
    """Of the gradient of one step on the whole batch, by the engine's own backward pass."""
    backbone = problem.backbone
    encoded = backbone.family.encode(backbone.model, problem.ids, problem.mask)
    noise = Noise(torch.arange(len(problem.ids)) + method.num_samples * 10**9)  # as `drawn_and_scored` begins
    backbone.model.zero_grad()
    warmup_step(backbone, method, encoded, problem.labels, noise).loss.backward()
    return sum(part.grad.square().sum().item() for part in backbone.model.parameters() if part.grad is not None)


@pytest.mark.parametrize(("objective", "baseline"), MEASURED_OBJECTIVES)
def test_estimates_are_the_gradients_of_the_engines_steps(problem: Problem, objective: str, baseline: str) -> None:
    for sampler in SAMPLERS:
        method = method_of(objective, baseline, sampler, 4)
        drawn_by = method_of("marginal", "mean", sampler, 4)
        if method and sampler != "recognition":  # whose step also trains its proposal
            target, warmup = estimates(problem, drawn_and_scored(problem, drawn_by, 1, seed=4), objective, baseline)
            found = (target + warmup).square().sum().item()
            assert found == pytest.approx(squared_norm(problem, method), rel=1e-5), sampler


@pytest.mark.parametrize("baseline", ["mean", "none"])
def test_all_warmups_drawn_without_replacement_are_exact(problem: Problem, baseline: str) -> None:
    method = method_of("marginal", baseline, "without_replacement", WARMUPS)
    terms = estimates(problem, drawn_and_scored(problem, method, 3, seed=1), "marginal", baseline)
    for term, exact in zip(terms, (problem.exact_target, problem.exact_warmup), strict=True):
        torch.testing.assert_close(term, exact.expand(3, -1), rtol=0, atol=1e-5 * exact.abs().max().item())


def test_figures_are_those_of_known_noise(problem: Problem) -> None:
    torch.manual_seed(0)
    exact = torch.nn.functional.normalize(torch.randn(50, dtype=torch.float64), dim=0)
    noise = torch.randn(2000, 50, dtype=torch.float64) / 10
    found = estimation_errors(
        1.5 * exact + noise, exact + noise, replace(problem, exact_target=exact, exact_warmup=exact)
    )
    expected = {"target_bias": 0.25, "target_variance": 0.5, "warmup_bias": 0.0, "warmup_variance": 0.5}
    expected |= {"bias": 0.25 / 4, "variance": 4 * 0.5 / 4}
    for name, value in expected.items():
        assert abs(found[name] - value) < 4 * found[f"{name}_error"], name
        assert 0 < found[f"{name}_error"] < 0.02, name
    assert found["cosine_of_mean"] == pytest.approx(1, abs=1e-3)
    assert found["cosine"] == pytest.approx((1 + 4 * 0.5 / 2.5**2) ** -0.5, abs=0.02)


def test_the_command_compares_estimators(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/estimator_variance.py", "--draws", "20", "--json", str(tmp_path / "found.json")]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert len([line for line in result.stdout.splitlines() if line.startswith("| marginal")]) == 2 * len(SAMPLERS)
    found = {
        (row["model"], row["objective"], row["baseline"], row["sampler"], row["samples"]): row
        for row in json.loads((tmp_path / "found.json").read_text())
    }
    for model in ("fresh", "trained"):
        for objective in ("marginal", "vimco", "elbo"):
            few, some, many = (found[model, objective, "mean", "iid", count]["variance"] for count in (2, 4, 8))
            assert few > some > many, (model, objective)
        for objective in ("marginal", "resample"):
            with_mean, without = (found[model, objective, kind, "iid", 4] for kind in ("mean", "none"))
            assert with_mean["warmup_variance"] < without["warmup_variance"], (model, objective)
        assert (model, "elbo", "mean", "without_replacement", 4) not in found
    biases = [found["trained", "marginal", "mean", "iid", count]["bias"] for count in (2, 8)]
    assert biases[0] > biases[1]
    assert found["trained", "elbo", "mean", "iid", 8]["bias"] > 5 * biases[1]  # a bound stays one whatever K is
    variances = [found["trained", "marginal", "mean", sampler, 4]["variance"] for sampler in ("recognition", "iid")]
    assert variances[0] < variances[1]
