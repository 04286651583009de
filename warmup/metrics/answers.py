"""Scores of what a model answered: of a split, and given replaced warmups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from warmup.answering.answerer import Answer
from warmup.answering.substitution import Substitution
from warmup.data.examples import Example, options_of_all
from warmup.metrics.evaluation import Evaluation, compute_metrics
from warmup.metrics.metric import ScoringSettings, Texts
from warmup.metrics.significance import TestSet, compare_systems


def score_answers(
    answers: Sequence[Answer], examples: Sequence[Example], metrics: Sequence[str], settings: ScoringSettings
) -> Evaluation:
    """Metrics of the answers against the examples' targets; signatures say what answers were made to look like."""
    evaluation = compute_metrics(metrics, _texts([answer.prediction for answer in answers], examples), settings)
    if shape := settings.evaluation.generation_signature:
        scores = evaluation.scores
        evaluation.scores = {n: replace(score, signature=f"{score.signature}|{shape}") for n, score in scores.items()}
    return evaluation


def score_substitution(
    substitution: Substitution,
    examples: Sequence[Example],
    metrics: Sequence[str],
    settings: ScoringSettings,
    tested: str,
) -> dict[str, Any]:
    """What warmup_analysis.json says, given the `examples` that were answered; `metrics` are none that load a model.

    Scores are in percent, `target_nll` is in nats per token; shares are of 1. The score `tested`, where it is there,
    is compared with that of the own warmups by its paired test, two-sided, example by example.
    """
    warmups: dict[str, dict[str, Any]] = {}
    own = substitution.kinds["own"].predictions
    of_own: list[float] | None = None  # each example's score
    for kind, given in substitution.kinds.items():  # the own ones first
        texts = _texts(given.predictions, examples)
        found = compute_metrics(metrics, texts, settings)
        scores = {metric: score.value for metric, score in found.scores.items()}
        warmups[kind] = {"scores": scores, "target_nll": given.target_nll, "changed": given.changed}
        of_examples = found.segment_scores().get(tested)
        if kind == "own":
            of_own = of_examples
        elif tested in scores:
            test_set = TestSet(texts.references, settings.target_language, texts.options)
            segments = ([of_examples], [of_own]) if of_examples and of_own else None
            test = compare_systems(tested, [given.predictions], [own], test_set, segments)
            warmups[kind]["p_values"] = {tested: test.p_value}
    return {"examples": substitution.examples, "same_warmup": substitution.same_warmup, "warmups": warmups}


def _texts(predictions: Sequence[str], examples: Sequence[Example]) -> Texts:
    references, sources = [example.target or "" for example in examples], [example.source for example in examples]
    return Texts(predictions, references, sources, options_of_all(examples))
