"""The gauges that show a healthy warmup or a collapsing one, over training time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from warmup.reporting.figures.histories import LOST, TARGET_NLL, History, logged_keys, seed_curves, sft_phase
from warmup.reporting.figures.over_steps import BAND, Ends, draw_series, finish_axes, subfigure_rows
from warmup.reporting.figures.panels import Panel
from warmup.reporting.figures.style import WIDTH, add_legend, extra_height, wrapped

# The setting of a method that a gauge cannot exceed.
SAMPLES, LONGEST = "method.num_samples", "method.max_warmup_tokens"


@dataclass(frozen=True)
class Gauge:
    """A panel: what it shows, where its values end, and the log keys (without "warmup/") of its lines.

    Of several lines each has words of its own; a single one has none.
    """

    title: str
    keys: Mapping[str, str]
    low: float | None = 0
    high: float | str | None = None


# By the names that they are logged under, without "warmup/".
GAUGE_TITLES = {
    "token_entropy": "token entropy (nats)",
    "distinct": "distinct warmups of K",
    "distinct_inputs": "inputs with a warmup\nof their own (share)",
    "effective_sample_size": "effective sample size",
    "gain": "gain by warmups (nats)",
    "length": "warmup length (tokens)",
    "forced_separators": "forced separators (share)",
}
# Whether the model reads its warmups: the target's NLL after three of them, in one panel.
CONTRASTS = {
    f"{TARGET_NLL}_own": "own",
    f"{TARGET_NLL}_shuffled": "another's",
    f"{TARGET_NLL}_empty": "none",
}


def _single(key: str, low: float | None = 0, high: float | str | None = None) -> Gauge:
    return Gauge(GAUGE_TITLES[key], {key: ""}, low, high)


GAUGE_GROUPS = {
    "How much warmups differ": (
        _single("token_entropy"),
        _single("distinct", 1, SAMPLES),
        _single("distinct_inputs", 0, 1),
    ),
    "What they are worth": (
        _single("effective_sample_size", 1, SAMPLES),
        _single("gain"),
        Gauge("target NLL by warmup\n(nats per token)", CONTRASTS),
        Gauge(
            "NLL after other warmups\nminus after its own",
            {f"{LOST}_shuffled": "another's − own", f"{LOST}_empty": "none − own"},
            None,
        ),
    ),
    "Their form": (_single("length", 0, LONGEST), _single("forced_separators", 0, 1)),
}
# Dash, marker and how much black (below 0: white) is mixed into the variant's colour; of a difference as of its other.
LOOKS = {
    "own": ("-", "", 0.0),
    "another's": ("--", "s", 0.55),
    "none": (":", "x", -0.45),
    "another's − own": ("--", "s", 0.55),
    "none − own": (":", "x", -0.45),
}


def gauge_figures(panels: Sequence[Panel], histories: Mapping[Path, History]) -> list[Figure]:
    """What the warmup runs logged about their warmups: a figure per experiment, gauges in groups."""
    figures = []
    for panel in panels:
        warmups = Panel(panel.title, [one for one in panel.series if one.runs[0].method == "warmup"])
        groups = _groups(_gauge_keys(logged_keys(warmups.runs, histories)))
        if groups:
            figures.append(_gauges_page(warmups, groups, histories))
    return figures


def _gauge_keys(keys: Iterable[str]) -> dict[str, str]:
    """The log key of each gauge by its name, which may be logged with or without "warmup/"."""
    names = {key: key.removeprefix("warmup/") for key in sorted(keys)}
    return {name: key for key, name in names.items() if name != key or name in CONTRASTS}


def _groups(logged: Mapping[str, str]) -> dict[str, list[Gauge]]:
    """The panels of each group for the gauges that were logged, their keys as they were; unknown gauges come last."""
    found: dict[str, list[Gauge]] = {}
    known: set[str] = set()
    for heading, gauges in GAUGE_GROUPS.items():
        for gauge in gauges:
            known |= gauge.keys.keys()
            keys = {logged[name]: word for name, word in gauge.keys.items() if name in logged}
            if keys:
                found.setdefault(heading, []).append(Gauge(gauge.title, keys, gauge.low, gauge.high))
    for name in sorted(logged.keys() - known):
        title = wrapped(name.replace("_", " "), 26)
        found.setdefault("Other gauges", []).append(Gauge(title, {logged[name]: ""}, None))
    return found


def _gauges_page(panel: Panel, groups: Mapping[str, Sequence[Gauge]], histories: Mapping[Path, History]) -> Figure:
    heights = []
    for gauges in groups.values():
        rows = [gauges[start : start + 2] for start in range(0, len(gauges), 2)]
        heights.append(0.3 + sum(1.1 + extra_height(*(gauge.title for gauge in row)) for row in rows))
    title = wrapped(panel.title)
    heights[0] += 0.15 + extra_height(title)
    heights[-1] += 0.15
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    handles: dict[str, Any] = {}
    banded = False
    for number, part in enumerate(subfigure_rows(figure, heights)):
        heading, gauges = [*groups.items()][number]
        part.suptitle(heading if number else f"{title}\n{heading}", fontsize=7)
        grid = part.subplots(math.ceil(len(gauges) / 2), 2, squeeze=False).flatten()
        for axes, gauge in zip(grid, gauges, strict=False):
            banded |= _draw_gauge(axes, gauge, panel, histories, handles)
        for axes in grid[len(gauges) :]:
            axes.remove()
        if number == len(groups) - 1:
            for axes in grid[max(len(gauges) - 2, 0) : len(gauges)]:
                axes.set_xlabel("optimiser step")
    if handles:
        add_legend(figure, handles, BAND if banded else None)
    return figure


def _draw_gauge(
    axes: Axes, gauge: Gauge, panel: Panel, histories: Mapping[Path, History], handles: dict[str, Any]
) -> bool:
    """One panel; colours are the variants', as elsewhere. True where there is a band."""
    banded = False
    for one in panel.series:
        for key, word in gauge.keys.items():
            style = _look(one.style, word) if word else one.style
            drawn = draw_series(axes, seed_curves(one.runs, key, histories), word or one.label, style)
            banded |= drawn and not word
    axes.set_title(gauge.title)
    phases = [end for run in panel.runs if (end := sft_phase(histories[run.folder]))]
    several = any(gauge.keys.values())
    found = finish_axes(axes, _ends(gauge, panel), phases, name_at_top=not several)
    if not several:
        handles |= found
        return banded
    if gauge.low is None:
        axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.35 * (top - bottom))  # room for the legend
    axes.legend(found.values(), found.keys(), loc="upper right", fontsize=6, borderaxespad=0, labelspacing=0.2)
    return banded


def _ends(gauge: Gauge, panel: Panel) -> Ends:
    high = gauge.high
    if isinstance(high, str):
        stated = [value for run in panel.runs if (value := run.variant.get(high, "")).isdecimal()]
        high = max(map(int, stated), default=None)
    return Ends(gauge.low, high, whole=True)


def _look(style: Mapping[str, Any], word: str) -> dict[str, Any]:
    """The variant's style for the line of one of several warmups."""
    dash, marker, black = LOOKS[word]
    mixed, share = ((0.0,) * 3, black) if black >= 0 else ((1.0,) * 3, -black)
    colour = [(1 - share) * part + share * other for part, other in zip(to_rgb(style["color"]), mixed, strict=True)]
    return {**style, "color": tuple(colour), "linestyle": dash, "marker": marker, "markerfacecolor": "white"}
