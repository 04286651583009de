"""What the checks must know of rooms that come later; `warmup.command_line` hands it in, so that it is stated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class MetricFacts(Protocol):
    """What a configuration must know of a metric; `warmup.metrics.metric.Metric` says what each of these is."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def score_names(self) -> list[str]: ...  # noqa: D102

    @property
    def tasks(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def needs_labels(self) -> bool: ...  # noqa: D102

    @property
    def loads_model(self) -> bool: ...  # noqa: D102

    @property
    def model_key(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Facts:
    """The registered metrics by name, in the order in which tables show their scores."""

    metrics: Mapping[str, MetricFacts]

    def metrics_for(self, task: str, has_options: bool) -> list[str]:
        """The names of the metrics that a task may be scored with, its own before those of other tasks too.

        A task with options is scored by labels; one that no metric names, such as a custom task, by any metric.
        """
        every = list(self.metrics.values())
        if has_options:
            return [metric.name for metric in every if metric.needs_labels]
        suited = [metric for metric in every if task in metric.tasks]
        suited.sort(key=lambda metric: metric.tasks[0] != task)
        return [metric.name for metric in suited or every]

    def selection_scores(self, metrics: list[str]) -> list[str]:
        """The scores of `metrics` that may pick a checkpoint: a metric that loads a model is too slow for every one."""
        chosen = [self.metrics[name] for name in metrics if not self.metrics[name].loads_model]
        return [score for metric in chosen for score in metric.score_names]

    def model_keys(self, metrics: list[str]) -> list[str]:
        """The keys in `evaluation` that name the models of `metrics`."""
        return [
            self.metrics[name].model_key for name in self.metrics if name in metrics and self.metrics[name].model_key
        ]
