"""Learning curves of SFT against warmup, and what every figure over training time has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from warmup.reporting.figures.histories import History, SeedCurves, logged_keys, seed_curves
from warmup.reporting.figures.panels import Panel
from warmup.reporting.figures.style import GREY, WIDTH, add_legend, extra_height, steps_axis, wrapped
from warmup.runs.comparison import SCORE_ORDER, score_name

MOST_EXPERIMENTS = 5  # in one figure of learning curves: more would not fit a page
# Where a run does not tell which dev score it selected by: the tasks' defaults, in turn.
USUAL_SELECTION = ["bleu", "rougeL", "accuracy", *SCORE_ORDER]
NLL = "target_nll"
BAND = "band: ± one standard deviation over seeds"


def learning_curves(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """The dev score that selects the checkpoint and the target's NLL against optimiser steps, a row per experiment."""
    drawn = [panel for panel in panels if _quantities(panel, histories)]
    pages = [drawn[start : start + MOST_EXPERIMENTS] for start in range(0, len(drawn), MOST_EXPERIMENTS)]
    return [_curves_page(page, histories) for page in pages]


def _quantities(panel: Panel, histories: Mapping[Path, History]) -> list[tuple[str, str]]:
    """Log key and axis label of what an experiment logged: its dev score, its NLL."""
    logged = logged_keys(panel.runs, histories)
    stated = [run.selection_metric for run in panel.runs if run.selection_metric]
    score = next((name for name in [*stated, *USUAL_SELECTION] if f"eval_{name}" in logged), None)
    quantities = [(f"eval_{score}", f"dev {score_name(score)}")] if score else []
    return [*quantities, (NLL, "target NLL\n(nats per token)")] if NLL in logged else quantities


def _curves_page(panels: Sequence[Panel], histories: Mapping[Path, History]) -> Figure:
    titles = [wrapped(panel.title) for panel in panels]
    heights = [1.6 + extra_height(title) for title in titles]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    handles: dict[str, Any] = {}
    banded = False
    for panel, title, part in zip(panels, titles, subfigure_rows(figure, heights), strict=True):
        part.suptitle(title, fontsize=7)
        quantities = _quantities(panel, histories)
        for axes, (key, label) in zip(part.subplots(1, 2)[: len(quantities)], quantities, strict=True):
            for one in panel.series:
                banded |= draw_series(axes, seed_curves(one.runs, key, histories), one.label, one.style)
            axes.set_ylabel(label)
            axes.set_xlabel("optimiser step")
            finish_axes(axes, handles)
        for axes in part.axes[len(quantities) :]:
            axes.remove()
    add_legend(figure, handles, BAND if banded else None)
    return figure


def subfigure_rows(figure: Figure, heights: Sequence[float]) -> list[Any]:
    """Parts of the figure above each other, of so many inches each."""
    return list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])


def draw_series(axes: Axes, curves: SeedCurves, label: str, style: Mapping[str, Any]) -> bool:
    """The mean, and a band of one standard deviation; true where there is a band.

    Seeds that share no step are drawn one by one.
    """
    if not curves.mean:
        for curve in curves.single:
            axes.plot(list(curve), list(curve.values()), label=label, **style)
        return False
    steps, means = list(curves.mean), list(curves.mean.values())
    shown = style if len(steps) <= 20 else {**style, "marker": ""}  # a single evaluation would be invisible as a line
    axes.plot(steps, means, label=label, **shown)
    if not curves.deviation:
        return False
    spreads = curves.deviation.values()
    low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    return True


def finish_axes(axes: Axes, handles: dict[str, Any]) -> None:
    """Round ticks, words where nothing was logged, and this panel's lines for the figure's legend."""
    if not axes.has_data():
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    steps_axis(axes)
    handles.update({name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)})
