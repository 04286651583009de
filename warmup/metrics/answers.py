"""Scores of what a model answered: of a split, and given replaced warmups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from warmup.answering.answerer import Answer
from warmup.answering.substitution import Substitution
from warmup.data.examples import Example, options_of_all
from warmup.metrics.evaluation import Evaluation, compute_metrics
from warmup.metrics.metric import ScoringSettings, Texts


def score_answers(
    answers: Sequence[Answer], examples: Sequence[Example], metrics: Sequence[str], settings: ScoringSettings
) -> Evaluation:
    """Metrics of the answers against the examples' targets."""
    return compute_metrics(metrics, _texts([answer.prediction for answer in answers], examples), settings)


def score_substitution(
    substitution: Substitution, examples: Sequence[Example], metrics: Sequence[str], settings: ScoringSettings
) -> dict[str, Any]:
    """What warmup_analysis.json says, given the test set's `examples`; `metrics` are none that load a model.

    Scores are in percent, `target_nll` is in nats per token; shares are of 1.
    """
    examples = examples[: substitution.examples]
    warmups = {}
    for kind, given in substitution.kinds.items():
        found = compute_metrics(metrics, _texts(given.predictions, examples), settings)
        scores = {metric: score.value for metric, score in found.scores.items()}
        warmups[kind] = {"scores": scores, "target_nll": given.target_nll, "changed": given.changed}
    return {"examples": substitution.examples, "same_warmup": substitution.same_warmup, "warmups": warmups}


def _texts(predictions: Sequence[str], examples: Sequence[Example]) -> Texts:
    references, sources = [example.target or "" for example in examples], [example.source for example in examples]
    return Texts(predictions, references, sources, options_of_all(examples))
