"""Figures of training: SFT against warmup over time, and the gauges that show a collapsing warmup.

Drawn from each run's `history.json`, the Hugging Face Trainer's log: a list of entries, each with its "step".
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from warmup.errors import UserError
from warmup.files import read_json
from warmup.reporting.runs import Run, find_runs, group_by, newest_runs, varying_words
from warmup.reporting.tables import SCORE_ORDER, score_name

# Okabe and Ito's palette, which colour-blind readers can tell apart; dashes do so in black and white.
SFT_STYLE = {"color": "#0072B2", "linestyle": "--"}
COLOURS = ["#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", ":", "-."]
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
    "text.parse_math": False,  # a label with a $ is no formula
}
WIDTH = 2.3  # inches of a panel: three fill a page of text, with letters of the size of its footnotes
MOST_COLUMNS = 3
MOST_POINTS = 100  # of a curve: longer ones are averaged over equal spans of steps
# Where a run does not tell which dev score it selected by: the tasks' defaults, in turn.
USUAL_SELECTION = ["bleu", "rougeL", "accuracy", *SCORE_ORDER]
GAUGES = {
    "warmup/token_entropy": "token entropy\n(nats)",
    "warmup/distinct": "distinct\nwarmups of K",
    "warmup/effective_sample_size": "effective\nsample size",
    "warmup/gain": "gain by\nwarmups (nats)",
    "warmup/length": "warmup length\n(tokens)",
    "warmup/forced_separators": "forced separators\n(share)",
}
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


def write_figures(folder: Path, output: Path | None = None) -> list[Path]:
    """Draw all runs in `folder` and below into `output` (by default `folder`); returns the files written.

    `learning_curves.png`: the dev score that selects the checkpoint, and the target's NLL in nats per token, against
    optimiser steps. `warmup_gauges.png`: what the warmup runs logged about their warmups. In both a column is an
    experiment, seeds are thin lines and their mean is bold; curves of more than `MOST_POINTS` points are averaged
    over equal spans of steps. A figure without a point is not written.

    Raises:
        UserError: a record or history is broken, or the folder cannot be written.
    """
    runs, _ = newest_runs([run for run in find_runs(folder) if (run.folder / "history.json").is_file()])
    histories = {run.folder: _read_history(run.folder / "history.json") for run in runs}
    panels = _panels(runs)
    written = []
    with rc_context(STYLE):
        for name, figure in [
            ("learning_curves.png", _learning_curves(panels, histories)),
            ("warmup_gauges.png", _warmup_gauges(panels, histories)),
        ]:
            if figure is not None:
                path = (output or folder) / name
                _write_png(figure, path)
                written.append(path)
    return written


def _panels(runs: Sequence[Run]) -> list[Panel]:
    groups = group_by(runs, "experiment")
    panels = []
    for experiment, same in groups:
        task, model = experiment["task"], experiment["model"]
        alike = [other for other, _ in groups if (other["task"], other["model"]) == (task, model)]
        words = varying_words(alike)[alike.index(experiment)]
        title = "\n".join(line for part in (task, model, words) for line in textwrap.wrap(part, 26))
        panels.append(Panel(title, _lines(same)))
    return panels


def _lines(runs: Sequence[Run]) -> list[Line]:
    sft = [run for run in runs if run.method == "sft"]
    lines = [Line("SFT", SFT_STYLE, sft)] if sft else []
    variants = group_by([run for run in runs if run.method == "warmup"], "variant")
    words = varying_words([variant for variant, _ in variants])
    for number, (word, (_, same)) in enumerate(zip(words, variants, strict=True)):
        lines.append(Line(f"warmup, {word}" if word else "warmup", _style(number), same))
    return lines


def _style(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def _learning_curves(panels: Sequence[Panel], histories: Mapping[Path, History]) -> Figure | None:
    def score(panel: Panel) -> tuple[str, str]:
        name = _selection_metric(panel, histories)
        return f"eval_{name}", f"dev {score_name(name)}" if name else "dev score"

    def likelihood(panel: Panel) -> tuple[str, str]:
        return "target_nll", "target NLL\n(nats per token)"

    return _figure(panels, [score, likelihood], 1.9, histories)


def _warmup_gauges(panels: Sequence[Panel], histories: Mapping[Path, History]) -> Figure | None:
    kept = [Panel(panel.title, [line for line in panel.lines if line.label != "SFT"]) for panel in panels]
    kept = [panel for panel in kept if any(key.startswith("warmup/") for key in _logged(panel, histories))]
    keys = {key for panel in kept for key in _logged(panel, histories) if key.startswith("warmup/")}
    names = {**GAUGES, **{key: key.removeprefix("warmup/").replace("_", "\n") for key in sorted(keys - GAUGES.keys())}}

    def gauge(key: str) -> Callable[[Panel], tuple[str, str]]:
        return lambda panel: (key, names[key])

    return _figure(kept, [gauge(key) for key in names if key in keys], 1.25, histories)


def _logged(panel: Panel, histories: Mapping[Path, History]) -> set[str]:
    return {key for line in panel.lines for run in line.runs for entry in histories[run.folder] for key in entry}


def _selection_metric(panel: Panel, histories: Mapping[Path, History]) -> str:
    stated = [run.selection_metric for line in panel.lines for run in line.runs if run.selection_metric]
    logged = _logged(panel, histories)
    return next((score for score in [*stated, *USUAL_SELECTION] if f"eval_{score}" in logged), "")


def _figure(
    panels: Sequence[Panel],
    quantities: Sequence[Callable[[Panel], tuple[str, str]]],
    height: float,
    histories: Mapping[Path, History],
) -> Figure | None:
    """A column per panel and a row per quantity (log key and axis label); panels that do not fit go below.

    Returns None when there is nothing to draw.
    """
    columns, rows = min(len(panels), MOST_COLUMNS), len(quantities)
    if not columns or not rows:
        return None
    blocks = math.ceil(len(panels) / columns)
    size = (max(columns * WIDTH, 3.4), blocks * (rows * height + 0.5) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(blocks * rows, columns, squeeze=False)
    handles: dict[str, Any] = {}
    for index, panel in enumerate(panels):
        top, column = index // columns * rows, index % columns
        grid[top, column].set_title(panel.title)
        grid[top + rows - 1, column].set_xlabel("optimiser step")
        for row, quantity in enumerate(quantities, start=top):
            axes = grid[row, column]
            axes.sharex(grid[top, column])
            key, label = quantity(panel)
            for line in panel.lines:
                _draw(axes, line, key, histories)
            if not axes.has_data():
                axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color="#777777")
            if column == 0 or label != quantity(panels[index - 1])[1]:
                axes.set_ylabel(label)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            handles.update({name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)})
        grid[top, column].set_xlim(left=0)
        grid[top, column].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        grid[top, column].xaxis.set_major_formatter(EngFormatter(sep=""))
    for column in range((len(panels) - 1) % columns + 1, columns):
        for axes in grid[-rows:, column]:
            axes.remove()
    if not handles:
        return None
    seeds = any(len(line.runs) > 1 for panel in panels for line in panel.lines)
    title = "thin: a seed, bold: mean over seeds" if seeds else None
    legend_columns = 1 if max(map(len, handles)) > 20 else min(len(handles), 3)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=legend_columns, title=title)
    return figure


def _draw(axes: Axes, line: Line, key: str, histories: Mapping[Path, History]) -> None:
    """Each seed thin, and their mean over the steps that all of them have bold."""
    curves = [curve for run in line.runs if (curve := _curve(histories[run.folder], key))]
    if not curves:
        return
    span = max(max(curve) for curve in curves) / MOST_POINTS
    if max(map(len, curves)) > MOST_POINTS:
        curves = [_averaged(curve, span) for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    mean = [sum(curve[step] for curve in curves) / len(curves) for step in steps]
    if len(curves) > 1:
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), linewidth=0.6, alpha=0.5, **line.style)
    marker = "o" if len(steps) <= 20 else ""  # a single evaluation would be invisible as a line
    axes.plot(steps, mean, linewidth=1.6, marker=marker, markersize=3, label=line.label, **line.style)


def _curve(history: History, key: str) -> dict[float, float]:
    """Step -> value, in order of steps; a resumed run's later entry for a step counts."""
    found = {
        entry["step"]: entry[key] for entry in history if "step" in entry and isinstance(entry.get(key), (int, float))
    }
    return {step: float(found[step]) for step in sorted(found) if math.isfinite(found[step])}


def _averaged(curve: Mapping[float, float], span: float) -> dict[float, float]:
    """Means over spans of that many steps, each at its last step, so that seeds of unequal length still match."""
    spans: dict[int, list[float]] = defaultdict(list)
    for step, value in curve.items():
        spans[math.ceil(step / span)].append(value)
    return {number * span: sum(values) / len(values) for number, values in spans.items()}


def _read_history(path: Path) -> History:
    history = read_json(path)
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise UserError(f"{path} is no training history (a list of log entries); train that run again or move it")
    return history


def _write_png(figure: Figure, path: Path) -> None:
    """Whole or not at all, like everything the program writes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=200)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(picture.getvalue())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
