"""Every estimator on every model: which combinations there are, and the figures of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from warmup.config.schema import WarmupMethod
from warmup.errors import UserError
from warmup.methods.objective import effective_sample_size, posterior_weights
from warmup.studies.estimator_variance.estimates import DrawnWarmups, drawn_and_scored, estimates, estimation_errors
from warmup.studies.estimator_variance.problem import LIMIT, Problem, teach, tiny_backbone, with_exact_gradients

SAMPLE_COUNTS = (2, 4, 8)  # K
TABLE_K = 4  # the K of the tables' last columns
TRAINING_STEPS = {"fresh": 0, "trained": 50}
SAMPLERS: dict[str, dict[str, Any]] = {
    "iid": {},
    "iid, temperature 2": {"sampling_temperature": 2.0},
    "iid, top-p 0.9": {"sampling_top_p": 0.9},
    "without_replacement": {"sampler": "without_replacement"},
    "adaptive": {"sampler": "adaptive"},
    "recognition": {"sampler": "recognition"},
}
BASELINES = ("mean", "loo", "none")
# the last two bring their own baseline
MEASURED_OBJECTIVES = [*itertools.product(("marginal", "resample"), BASELINES), ("vimco", "mean"), ("elbo", "mean")]


@dataclass(frozen=True)
class ModelErrors:
    """What was found on one model.

    Attributes:
        likeness: what the model is like, in words.
        results: of each estimator its names, K, and the figures of `estimation_errors`.
    """

    model: str
    likeness: str
    results: list[dict[str, Any]]

    @property
    def worst_error(self) -> float:
        """The largest standard error of a variance, relative to it."""
        return max(row["variance_error"] / row["variance"] for row in self.results)


def method_of(objective: str, baseline: str, sampler: str, count: int) -> WarmupMethod | None:
    """The method's settings; None where the configuration refuses the combination."""
    choices = {"objective": objective, "baseline": baseline, "num_samples": count, **SAMPLERS[sampler]}
    method = WarmupMethod(max_warmup_tokens=LIMIT, entropy_coef=0.0, **choices)
    try:
        method.check()
    except UserError:
        return None
    return method


def _likeness(drawn: DrawnWarmups) -> str:
    """How much warmups matter: to inputs whose target depends on the warmup, and to the others."""
    weights = posterior_weights(drawn.target_logprob, drawn.log_prior_weight)
    spread, size = (part.view(-1, 2).mean(0) for part in (drawn.target_logprob.std(-1), effective_sample_size(weights)))
    return (
        f"where the target depends on the warmup, log p(y|x,c) of {TABLE_K} draws deviates by {spread[0]:.2f} nats, "
        f"effective sample size {size[0]:.1f}; elsewhere {spread[1]:.2f} and {size[1]:.1f}"
    )


def compare_estimators(draws: int) -> Iterator[ModelErrors]:
    """Every estimator from so many draws of each, a multiple of `GROUPS`; a model at a time."""
    with tqdm(total=len(TRAINING_STEPS) * len(SAMPLERS) * len(SAMPLE_COUNTS), unit="sampler") as progress:
        for model, steps in TRAINING_STEPS.items():
            backbone = tiny_backbone()
            teach(backbone, steps)
            found = _errors_on(model, with_exact_gradients(backbone), draws, progress)
            progress.clear()
            yield found


def _errors_on(model: str, problem: Problem, draws: int, progress: tqdm) -> ModelErrors:
    results, likeness = [], ""
    for sampler, count in itertools.product(SAMPLERS, SAMPLE_COUNTS):
        progress.set_postfix_str(f"{model}, {sampler}, K={count}")
        method = method_of("marginal", "mean", sampler, count)
        if method:
            drawn = drawn_and_scored(problem, method, draws, seed=count)
            likeness = _likeness(drawn) if (sampler, count) == ("iid", TABLE_K) else likeness
            for objective, baseline in MEASURED_OBJECTIVES:
                if method_of(objective, baseline, sampler, count):
                    found = estimation_errors(*estimates(problem, drawn, objective, baseline), problem)
                    names = {"model": model, "objective": objective, "baseline": baseline, "sampler": sampler}
                    results.append({**names, "samples": count, **found})
        progress.update()
    return ModelErrors(model, likeness, results)
