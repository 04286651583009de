"""What the checks must know of rooms that come later; `warmup.command_line` hands it in, so that it is stated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class MetricFacts(Protocol):
    """What a configuration must know of a metric; `warmup.metrics.metric.Metric` says what each of these is."""

    @property
    def name(self) -> str: ...

    @property
    def score_names(self) -> list[str]: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def loads_model(self) -> bool: ...

    @property
    def model_key(self) -> str: ...


@dataclass(frozen=True)
class Facts:
    """The registered metrics by name, in the order in which tables show their scores."""

    metrics: Mapping[str, MetricFacts]

    def metrics_for(self, task: str) -> list[str]:
        """The names of the metrics that a task may be scored with, its own before those of other tasks too.

        A custom task may use any of them.
        """
        suited = [metric for metric in self.metrics.values() if task == "custom" or task in metric.tasks]
        return [metric.name for metric in sorted(suited, key=lambda metric: task not in ("custom", *metric.tasks[:1]))]

    def selection_scores(self, metrics: list[str]) -> list[str]:
        """The scores of `metrics` that may pick a checkpoint: a metric that loads a model is too slow for every one."""
        chosen = [self.metrics[name] for name in metrics if not self.metrics[name].loads_model]
        return [score for metric in chosen for score in metric.score_names]

    def model_keys(self, metrics: list[str]) -> list[str]:
        """The keys in `evaluation` that name the models of `metrics`."""
        return [
            self.metrics[name].model_key for name in self.metrics if name in metrics and self.metrics[name].model_key
        ]
