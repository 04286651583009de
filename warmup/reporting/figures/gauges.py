"""The gauges that show a healthy warmup or a collapsing one, over training time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmup.reporting.figures.histories import History, logged_keys, seed_curves
from warmup.reporting.figures.over_steps import BAND, draw_series, finish_axes, subfigure_rows
from warmup.reporting.figures.panels import Panel
from warmup.reporting.figures.style import WIDTH, add_legend, extra_height, wrapped

# By the names that they are logged under, without "warmup/".
GAUGE_TITLES = {
    "token_entropy": "token entropy (nats)",
    "distinct": "distinct warmups of K",
    "effective_sample_size": "effective sample size",
    "gain": "gain by warmups (nats)",
    "length": "warmup length (tokens)",
    "forced_separators": "forced separators (share)",
    "distinct_inputs": "inputs with a warmup\nof their own (share)",
}
# The target's NLL after three warmups tells whether the model reads them: one panel holds all three.
CONTRASTS = {
    "target_nll_own": ("own", "-"),
    "target_nll_shuffled": ("another's", "--"),
    "target_nll_empty": ("none", ":"),
}


def gauge_figures(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """What the warmup runs logged about their warmups: a figure per experiment, a panel per gauge."""
    figures = []
    for panel in panels:
        warmups = Panel(panel.title, [one for one in panel.series if one.runs[0].method == "warmup"])
        keys = sorted(filter(_gauge, logged_keys(warmups.runs, histories)), key=_gauge_order)
        if keys:
            figures.append(_gauges_page(warmups, keys, histories))
    return figures


def _gauge(key: str) -> str:
    """The gauge that a log key is, without its prefix; empty for anything else."""
    name = key.removeprefix("warmup/")
    return name if name != key or name in CONTRASTS else ""


def _gauge_order(key: str) -> tuple[int, str]:
    known = list(GAUGE_TITLES)
    name = _gauge(key)
    return (known.index(name) if name in known else len(known), name)


def _gauges_page(panel: Panel, keys: Sequence[str], histories: Mapping[Path, History]) -> Figure:
    single = [key for key in keys if _gauge(key) not in CONTRASTS]
    contrasts = [key for key in keys if _gauge(key) in CONTRASTS]
    count = len(single) + bool(contrasts)
    rows = math.ceil(count / 2)
    titles = [GAUGE_TITLES.get(_gauge(key)) or wrapped(_gauge(key).replace("_", " "), 26) for key in single]
    title = wrapped(panel.title)
    height = 1.1 * rows + 0.5 + extra_height(title) + sum(map(extra_height, titles))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    part = subfigure_rows(figure, [height])[0]
    part.suptitle(title, fontsize=7)
    grid = part.subplots(rows, 2, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    banded = False
    for axes, key, name in zip(grid, single, titles, strict=False):
        for one in panel.series:
            banded |= draw_series(axes, seed_curves(one.runs, key, histories), one.label, one.style)
        axes.set_title(name)
        finish_axes(axes, handles)
    if contrasts:
        _draw_contrasts(grid[len(single)], panel, contrasts, histories)
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[max(count - 2, 0) : count]:
        axes.set_xlabel("optimiser step")
    if handles:
        add_legend(figure, handles, BAND if banded else None)
    return figure


def _draw_contrasts(axes: Axes, panel: Panel, keys: Sequence[str], histories: Mapping[Path, History]) -> None:
    """Colours are the variants', as elsewhere; dashes tell whose warmup the target follows."""
    for one in panel.series:
        for key in keys:
            label, dash = CONTRASTS[_gauge(key)]
            style = {**one.style, "linestyle": dash, "marker": ""}
            draw_series(axes, seed_curves(one.runs, key, histories), label, style)
    axes.set_title("target NLL by warmup\n(nats per token)")
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    finish_axes(axes, {})
    axes.legend(handles.values(), handles.keys(), fontsize=6, handlelength=1.6, borderaxespad=0.1, labelspacing=0.2)
