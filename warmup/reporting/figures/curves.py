"""Learning curves of SFT against warmup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from warmup.metrics.registry import score_kinds, score_limits, score_title
from warmup.reporting.figures.histories import TARGET_NLL, History, logged_keys, seed_curves, sft_phase
from warmup.reporting.figures.over_steps import BAND, Ends, draw_series, finish_axes, subfigure_rows
from warmup.reporting.figures.panels import Panel
from warmup.reporting.figures.style import WIDTH, add_legend, extra_height, wrapped

MOST_EXPERIMENTS = 5  # in one figure of learning curves: more would not fit a page


def learning_curves(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """The dev score that selects the checkpoint and the target's NLL against optimiser steps, a row per experiment."""
    drawn = [panel for panel in panels if _quantities(panel, histories)]
    pages = [drawn[start : start + MOST_EXPERIMENTS] for start in range(0, len(drawn), MOST_EXPERIMENTS)]
    return [_curves_page(page, histories) for page in pages]


def _quantities(panel: Panel, histories: Mapping[Path, History]) -> list[tuple[str, str, Ends]]:
    """Log key, axis label and limits of what an experiment logged: its dev score, its NLL."""
    logged = logged_keys(panel.runs, histories)
    stated = [run.selection_metric for run in panel.runs if run.selection_metric]
    score = next((name for name in [*stated, *score_kinds()] if f"eval_{name}" in logged), None)
    quantities = [(f"eval_{score}", f"dev {score_title(score)}", Ends(*score_limits(score)))] if score else []
    likelihood: list[tuple[str, str, Ends]] = [(TARGET_NLL, "target NLL\n(nats per token)", Ends(0))]
    return [*quantities, *(likelihood if TARGET_NLL in logged else [])]


def _curves_page(panels: Sequence[Panel], histories: Mapping[Path, History]) -> Figure:
    titles = [wrapped(panel.title) for panel in panels]
    heights = [1.6 + extra_height(title) for title in titles]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    handles: dict[str, Any] = {}
    banded = False
    for panel, title, part in zip(panels, titles, subfigure_rows(figure, heights), strict=True):
        part.suptitle(title, fontsize=7)
        quantities = _quantities(panel, histories)
        phases = [end for run in panel.runs if (end := sft_phase(histories[run.folder]))]
        for axes, (key, label, ends) in zip(part.subplots(1, 2)[: len(quantities)], quantities, strict=True):
            for one in panel.series:
                banded |= draw_series(axes, seed_curves(one.runs, key, histories), one.label, one.style)
            axes.set_ylabel(label)
            axes.set_xlabel("optimiser step")
            handles |= finish_axes(axes, ends, phases, name_at_top=key != TARGET_NLL)
        for axes in part.axes[len(quantities) :]:
            axes.remove()
    add_legend(figure, handles, BAND if banded else None)
    return figure
