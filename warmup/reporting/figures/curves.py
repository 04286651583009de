"""Figures over training time: learning curves of SFT against warmup, and the gauges that show a collapsing warmup.

Drawn from each run's `history.json`, the Hugging Face Trainer's log: a list of entries, each with its "step".
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from warmup.errors import UserError
from warmup.files import read_json
from warmup.metrics.registry import score_kinds, score_title
from warmup.reporting.figures.style import (
    GREY,
    SFT_STYLE,
    WIDTH,
    add_legend,
    extra_height,
    steps_axis,
    warmup_style,
    wrapped,
)
from warmup.runs.finding import Run, experiment_words, group_by, variants_of

MOST_POINTS = 100  # of a curve: longer ones are averaged over equal spans of steps
MOST_EXPERIMENTS = 5  # in one figure of learning curves: more would not fit a page
NLL = "target_nll"
GAUGES = {
    "token_entropy": "token entropy (nats)",
    "distinct": "distinct warmups of K",
    "effective_sample_size": "effective sample size",
    "gain": "gain by warmups (nats)",
    "length": "warmup length (tokens)",
    "forced_separators": "forced separators (share)",
    "distinct_inputs": "inputs with a warmup\nof their own (share)",
}
# The target's NLL behind three warmups tells whether the model reads them: one panel holds all three.
CONTRASTS = {
    "target_nll_own": ("own", "-"),
    "target_nll_shuffled": ("another's", "--"),
    "target_nll_empty": ("none", ":"),
}
BAND = "band: ± one standard deviation over seeds"
History = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """The seeds of one method (and variant) in one experiment, drawn alike."""

    label: str
    style: Mapping[str, Any]
    runs: Sequence[Run]


@dataclass(frozen=True)
class Panel:
    """One experiment: SFT and each variant of warmup."""

    title: str
    lines: Sequence[Line]

    @property
    def runs(self) -> list[Run]:
        """Of all lines."""
        return [run for line in self.lines for run in line.runs]


def panels_of(runs: Sequence[Run]) -> list[Panel]:
    """A panel per experiment; what tells it from the others of its task and model stands in its title.

    A variant of warmup has one label and style in all of them.
    """
    groups = group_by(runs, "experiment")
    variants = variants_of(runs)
    panels = []
    for experiment, same in groups:
        task, model = experiment["task"], experiment["model"]
        alike = [(other, others) for other, others in groups if (other["task"], other["model"]) == (task, model)]
        detail = experiment_words([others for _, others in alike])[alike.index((experiment, same))]
        sft = [run for run in same if run.method == "sft"]
        lines = [Line("SFT", SFT_STYLE, sft)] if sft else []
        for number, (word, variant, _) in enumerate(variants):
            seeds = [run for run in same if run.method == "warmup" and run.variant == variant]
            label = f"warmup, {word}" if word else "warmup"
            lines += [Line(label, warmup_style(number), seeds)] if seeds else []
        panels.append(Panel(", ".join(part for part in (task, model, detail) if part), lines))
    return panels


def read_histories(runs: Sequence[Run]) -> tuple[dict[Path, History], list[str]]:
    """The history of each run folder, empty where there is none, and a line for each that is broken."""
    histories: dict[Path, History] = {}
    notes = []
    for run in runs:
        path = run.folder / "history.json"
        try:
            history = read_json(path) if path.exists() else []
            if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
                raise UserError(f"{path} is no training history (a list of log entries)")
        except UserError as error:
            history = []
            notes.append(f"Not drawn: {error}.")
        histories[run.folder] = history
    return histories, notes


def learning_curves(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """The dev score that selects the checkpoint and the target's NLL against optimiser steps, a row per experiment."""
    drawn = [panel for panel in panels if _quantities(panel, histories)]
    pages = [drawn[start : start + MOST_EXPERIMENTS] for start in range(0, len(drawn), MOST_EXPERIMENTS)]
    return [_curves_page(page, histories) for page in pages]


def _quantities(panel: Panel, histories: Mapping[Path, History]) -> list[tuple[str, str]]:
    """Log key and axis label of what an experiment logged: its dev score, its NLL."""
    logged = _logged(panel, histories)
    stated = [run.selection_metric for run in panel.runs if run.selection_metric]
    score = next((name for name in [*stated, *score_kinds()] if f"eval_{name}" in logged), None)
    quantities = [(f"eval_{score}", f"dev {score_title(score)}")] if score else []
    return [*quantities, (NLL, "target NLL\n(nats per token)")] if NLL in logged else quantities


def _curves_page(panels: Sequence[Panel], histories: Mapping[Path, History]) -> Figure:
    titles = [wrapped(panel.title) for panel in panels]
    heights = [1.6 + extra_height(title) for title in titles]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    handles: dict[str, Any] = {}
    banded = False
    for panel, title, part in zip(panels, titles, _rows_of(figure, heights), strict=True):
        part.suptitle(title, fontsize=7)
        quantities = _quantities(panel, histories)
        for axes, (key, label) in zip(part.subplots(1, 2)[: len(quantities)], quantities, strict=True):
            for line in panel.lines:
                banded |= _draw(axes, line.runs, key, histories, line.label, line.style)
            axes.set_ylabel(label)
            axes.set_xlabel("optimiser step")
            _finish(axes, handles)
        for axes in part.axes[len(quantities) :]:
            axes.remove()
    add_legend(figure, handles, BAND if banded else None)
    return figure


def _rows_of(figure: Figure, heights: Sequence[float]) -> list[Any]:
    return list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])


def warmup_gauges(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """What the warmup runs logged about their warmups: a figure per experiment, a panel per gauge."""
    figures = []
    for panel in panels:
        warmups = Panel(panel.title, [line for line in panel.lines if line.style is not SFT_STYLE])
        keys = sorted(filter(_gauge, _logged(warmups, histories)), key=_gauge_order)
        if keys:
            figures.append(_gauges_page(warmups, keys, histories))
    return figures


def _gauge(key: str) -> str:
    """The gauge that a log key is, without its prefix; empty for anything else."""
    name = key.removeprefix("warmup/")
    return name if name != key or name in CONTRASTS else ""


def _gauge_order(key: str) -> tuple[int, str]:
    known = list(GAUGES)
    name = _gauge(key)
    return (known.index(name) if name in known else len(known), name)


def _gauges_page(panel: Panel, keys: Sequence[str], histories: Mapping[Path, History]) -> Figure:
    single = [key for key in keys if _gauge(key) not in CONTRASTS]
    contrasts = [key for key in keys if _gauge(key) in CONTRASTS]
    count = len(single) + bool(contrasts)
    rows = math.ceil(count / 2)
    titles = [GAUGES.get(_gauge(key)) or wrapped(_gauge(key).replace("_", " "), 26) for key in single]
    title = wrapped(panel.title)
    height = 1.1 * rows + 0.5 + extra_height(title) + sum(map(extra_height, titles))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    part = _rows_of(figure, [height])[0]
    part.suptitle(title, fontsize=7)
    grid = part.subplots(rows, 2, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    banded = False
    for axes, key, name in zip(grid, single, titles, strict=False):
        for line in panel.lines:
            banded |= _draw(axes, line.runs, key, histories, line.label, line.style)
        axes.set_title(name)
        _finish(axes, handles)
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
    for line in panel.lines:
        for key in keys:
            label, dash = CONTRASTS[_gauge(key)]
            _draw(axes, line.runs, key, histories, label, {**line.style, "linestyle": dash, "marker": ""})
    axes.set_title("target NLL by warmup\n(nats per token)")
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    _finish(axes, {})
    axes.legend(handles.values(), handles.keys(), fontsize=6, handlelength=1.6, borderaxespad=0.1, labelspacing=0.2)


def _finish(axes: Axes, handles: dict[str, Any]) -> None:
    """Round ticks, words where nothing was logged, and this panel's lines for the figure's legend."""
    if not axes.has_data():
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    steps_axis(axes)
    handles.update({name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)})


def _logged(panel: Panel, histories: Mapping[Path, History]) -> set[str]:
    """The keys with a number to draw."""
    return {key for run in panel.runs for entry in histories[run.folder] for key in entry if _is_point(entry, key)}


def _draw(
    axes: Axes,
    runs: Sequence[Run],
    key: str,
    histories: Mapping[Path, History],
    label: str,
    style: Mapping[str, Any],
) -> bool:
    """The mean over the steps that all seeds have, and a band of one standard deviation; true where there is a band.

    Seeds that share no step are drawn one by one.
    """
    curves = [curve for run in runs if (curve := _curve(histories[run.folder], key))]
    if not curves:
        return False
    if max(map(len, curves)) > MOST_POINTS:
        span = max(max(curve) for curve in curves) / MOST_POINTS
        curves = [_averaged(curve, span) for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    for curve in [] if steps else curves:
        axes.plot(list(curve), list(curve.values()), label=label, **style)
    if not steps:
        return False
    means = [statistics.fmean(curve[step] for curve in curves) for step in steps]
    shown = style if len(steps) <= 20 else {**style, "marker": ""}  # a single evaluation would be invisible as a line
    axes.plot(steps, means, label=label, **shown)
    if len(curves) == 1:
        return False
    spreads = [statistics.stdev(curve[step] for curve in curves) for step in steps]
    low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    return True


def _is_point(entry: Mapping[str, Any], key: str) -> bool:
    """Whether a log entry has a number for `key` at a step that is one."""
    values = (entry.get("step"), entry.get(key))
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in values)


def _curve(history: History, key: str) -> dict[float, float]:
    """Step -> value, in order of steps; a resumed run's later entry for a step counts."""
    found = {float(entry["step"]): float(entry[key]) for entry in history if _is_point(entry, key)}
    return {step: found[step] for step in sorted(found)}


def _averaged(curve: Mapping[float, float], span: float) -> dict[float, float]:
    """Means over spans of that many steps, each at its last step, so that seeds of unequal length still match."""
    spans: dict[int, list[float]] = defaultdict(list)
    for step, value in curve.items():
        spans[math.ceil(step / span)].append(value)
    return {number * span: statistics.fmean(values) for number, values in spans.items()}
