"""What figures show together: a panel for each experiment, in it SFT and each variant of the other methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmup.reporting.figures.style import SFT_STYLE, warmup_style
from warmup.runs.finding import Run, group_by
from warmup.runs.metrics_records import METHOD_NAMES
from warmup.runs.short_labels import ShortLabels


@dataclass(frozen=True)
class Series:
    """The seeds of one method (and variant) in one experiment, drawn alike."""

    label: str
    style: Mapping[str, Any]
    runs: Sequence[Run]


@dataclass(frozen=True)
class Panel:
    """One experiment: SFT and each variant of warmup and of its control."""

    title: str
    series: Sequence[Series]

    @property
    def runs(self) -> list[Run]:
        """Of all series."""
        return [run for one in self.series for run in one.runs]


def panels_of(runs: Sequence[Run]) -> list[Panel]:
    """A panel per experiment; what tells it from the others of its task and model stands in its title.

    A variant of a method has one label and style in all of them.
    """
    labels = ShortLabels(runs)
    variants = [(method, *found) for method in METHOD_NAMES if method != "sft" for found in labels.variants(method)]
    panels = []
    for experiment, same in group_by(runs, "experiment"):
        sft = [run for run in same if run.method == "sft"]
        series = [Series("SFT", SFT_STYLE, sft)] if sft else []
        for number, (method, word, variant) in enumerate(variants):
            seeds = [run for run in same if run.method == method and run.variant == variant]
            label = ", ".join(filter(None, (METHOD_NAMES[method], word)))
            series += [Series(label, warmup_style(number), seeds)] if seeds else []
        title = ", ".join(filter(None, (same[0].task, same[0].model_name, labels.of_experiment(experiment))))
        panels.append(Panel(title, series))
    return panels
