"""What warmups cost and what more of them buy: quality against K, and against training time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from warmup.metrics.registry import score_kinds, score_limits, score_title
from warmup.reporting.figures.panels import Panel, Series
from warmup.reporting.figures.style import (
    SFT_STYLE,
    WIDTH,
    add_legend,
    extra_height,
    from_zero,
    warmup_style,
    within,
    wrapped,
)
from warmup.runs.finding import Run
from warmup.runs.short_labels import MOST_LETTERS, in_words, varying

MOST_PANELS = 8  # in one figure, two a row; 5 where titles are long, one a row
BARS = "bars: ± one standard deviation over seeds"
K_KEY = "method.num_samples"
UNITS = [("h", 3600), ("min", 60), ("s", 1)]


def quality_against_samples(panels: Sequence[Panel]) -> list[Figure]:
    """The test score against K, for experiments that tried more than one; SFT is a level line."""
    return _pages([panel for panel in panels if len(_samples(panel.runs)) > 1], _draw_samples)


def quality_against_cost(panels: Sequence[Panel]) -> list[Figure]:
    """The test score against seconds of training, a point per method and variant, where there are two to compare."""
    return _pages([panel for panel in panels if len(_costs(panel)) > 1], _draw_cost)


def _pages(panels: Sequence[Panel], draw: Callable[[Axes, Panel, str], dict[str, Any]]) -> list[Figure]:
    most = 5 if any("…" in wrapped(panel.title, 21) for panel in panels) else MOST_PANELS
    pages = [panels[start : start + most] for start in range(0, len(panels), most)]
    return [_panels_page(page, draw) for page in pages]


def _panels_page(panels: Sequence[Panel], draw: Callable[[Axes, Panel, str], dict[str, Any]]) -> Figure:
    halves = [wrapped(panel.title, 21) for panel in panels]
    columns = 1 if len(panels) == 1 or any("…" in title for title in halves) else 2
    rows = math.ceil(len(panels) / columns)
    titles = halves if columns == 2 else [wrapped(panel.title, 44) for panel in panels]
    height = sum(1.6 + extra_height(*titles[start : start + columns]) for start in range(0, len(titles), columns))
    figure = Figure(figsize=(WIDTH, height + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for axes, panel, title in zip(grid, panels, titles, strict=False):
        metric = _metric(panel)
        handles |= draw(axes, panel, metric)
        within(axes, *score_limits(metric))
        axes.set_title(title)
        axes.set_ylabel(f"test {score_title(metric)}")
    for axes in grid[len(panels) :]:
        axes.remove()
    spread = any(len(one.runs) > 1 for panel in panels for one in panel.series)
    add_legend(figure, handles, BARS if spread else None)
    return figure


def _metric(panel: Panel) -> str:
    """The score that picked the checkpoint, else the first that was computed."""
    scored = {metric for run in panel.runs for metric in run.scores}
    stated = [run.selection_metric for run in panel.runs if run.selection_metric]
    return next((name for name in [*stated, *score_kinds()] if name in scored), "")


def _samples(runs: Sequence[Run]) -> set[int]:
    return {run.num_samples for run in runs if run.num_samples and run.scores}


def _draw_samples(axes: Axes, panel: Panel, metric: str) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    sft = _spread([run.scores[metric].value for run in panel.runs if run.method == "sft" and metric in run.scores])
    if sft:
        mean, deviation = sft
        handles["SFT"] = axes.axhline(mean, color=SFT_STYLE["color"], linestyle=SFT_STYLE["linestyle"])
        axes.axhspan(mean - deviation, mean + deviation, color=SFT_STYLE["color"], alpha=0.15, linewidth=0)
    tried = [run for run in panel.runs if run.num_samples and metric in run.scores]
    kinds: dict[Any, list[Run]] = {}
    for run in tried:
        kinds.setdefault(tuple(sorted(item for item in run.variant.items() if item[0] != K_KEY)), []).append(run)
    words = varying([dict(kind) for kind in kinds])
    for number, (differing, runs) in enumerate(zip(words, kinds.values(), strict=True)):
        points = {}
        for samples in sorted(_samples(runs)):
            points[samples] = _spread([run.scores[metric].value for run in runs if run.num_samples == samples])
        found = {samples: point for samples, point in points.items() if point}
        means, deviations = zip(*found.values(), strict=True)
        style = warmup_style(number)
        label = ", ".join(filter(None, ("warmup", _short_words(panel, differing, runs))))
        handles[label] = axes.errorbar(list(found), means, yerr=deviations, capsize=2, elinewidth=0.8, **style)
    ticks = sorted(_samples(tried))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("K, warmups per input")
    return handles


def _short_words(panel: Panel, differing: Mapping[str, str], runs: Sequence[Run]) -> str:
    """The key that differs; for several the letters that these runs have in other figures."""
    text = in_words(differing)
    if len(differing) < 2 and len(text) <= MOST_LETTERS:
        return text
    return "/".join(one.label.partition(", ")[2] for one in panel.series if one.runs[0] in runs)


def _costs(panel: Panel) -> list[tuple[Series, list[Run]]]:
    """The series whose runs tell both their score and their training time."""
    metric = _metric(panel)
    costs = []
    for one in panel.series:
        timed = [run for run in one.runs if run.training_seconds and metric in run.scores]
        costs += [(one, timed)] if timed else []
    return costs


def _draw_cost(axes: Axes, panel: Panel, metric: str) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    costs = _costs(panel)
    longest = max(run.training_seconds or 0 for _, runs in costs for run in runs)
    unit, seconds = next(item for item in UNITS if longest >= 2 * item[1] or item[1] == 1)
    for one, runs in costs:
        x = _spread([(run.training_seconds or 0) / seconds for run in runs])
        y = _spread([run.scores[metric].value for run in runs])
        assert x and y
        style = {**one.style, "linestyle": ""}
        drawn = axes.errorbar(x[0], y[0], xerr=x[1], yerr=y[1], capsize=2, elinewidth=0.8, markersize=4, **style)
        handles[one.label] = drawn.lines[0]
    from_zero(axes)
    several = len({device for _, runs in costs for run in runs if (device := run.device)}) > 1
    axes.set_xlabel(f"training time ({unit}{', several devices' if several else ''})")
    return handles


def _spread(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean and sample standard deviation, 0 for a single value; None where there is none."""
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
