"""Scores and paired tests of plain lists of texts."""

from __future__ import annotations

from collections.abc import Sequence

from warmup.config.schema import EvaluationConfig
from warmup.metrics.evaluation import Evaluation, compute_metrics
from warmup.metrics.metric import ScoringSettings, Texts
from warmup.metrics.significance import PairedComparison, TestSet, compare_systems


def scored(
    metrics: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str] | None = None,
    language: str | None = None,
    evaluation: EvaluationConfig | None = None,
    options: Sequence[Sequence[str]] | None = None,
) -> Evaluation:
    settings = ScoringSettings(language, "cpu", evaluation or EvaluationConfig())
    return compute_metrics(metrics, Texts(predictions, references, sources, options), settings)


def compared(
    score: str,
    baseline: Sequence[Sequence[str]],
    system: Sequence[Sequence[str]],
    references: Sequence[str],
    language: str | None = None,
    segments: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]] | None = None,
) -> PairedComparison:
    return compare_systems(score, baseline, system, TestSet(references, language), segments)
