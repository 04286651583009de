"""Scores of plain lists of texts."""

from __future__ import annotations

from collections.abc import Sequence

from warmup.config.schema import EvaluationConfig
from warmup.metrics.evaluation import Evaluation, compute_metrics
from warmup.metrics.metric import ScoringSettings, Texts


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
