"""What is measured on the dev set at every evaluation of a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from warmup.answering.answerer import Answerer
from warmup.answering.dev_loss import dev_loss
from warmup.config.schema import Config, WarmupMethod
from warmup.data.examples import Example
from warmup.metrics.answers import score_answers
from warmup.metrics.metric import ScoringSettings
from warmup.metrics.registry import METRICS
from warmup.models.configured import AnsweringModel
from warmup.models.encoding import encode_sources, encode_targets


def dev_scores_of(config: Config, model: AnsweringModel, examples: Sequence[Example]) -> Callable[[], dict[str, float]]:
    """A function that answers the dev set with the model as it is: its scores, and `loss` in nats per target token."""
    sources = encode_sources(model.backbone, examples, model.settings.limits.source, "validation")
    targets = encode_targets(model.backbone, examples, model.settings.limits.target, "validation")
    quick = dataclasses.replace(config.evaluation, num_warmups=1, num_candidates=1)
    answerer = Answerer(model.backbone, model.settings.limits, quick, config.seed)
    options = answerer.options_of(examples)
    samples = config.method.num_samples if isinstance(config.method, WarmupMethod) else 1

    def dev_scores() -> dict[str, float]:
        answers, _ = answerer.answer_encoded(sources, "validation", options)
        settings = ScoringSettings(config.task.target_language)
        evaluation = score_answers(answers, examples, dev_metrics(config), settings)
        scores = {name: score.value for name, score in evaluation.scores.items()}
        return {**scores, "loss": dev_loss(answerer, sources, targets, samples)}

    return dev_scores


def dev_metrics(config: Config) -> list[str]:
    """The metrics of the dev set: those without a model of their own, which would slow every evaluation."""
    return [metric for metric in config.task.metrics if not METRICS[metric].loads_model]
