"""Forest plot: differences of SFT and other methods with confidence intervals, a line per test set and metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmup.reporting.figures.style import COLOURS, WIDTH, add_legend, wrapped
from warmup.reporting.tables.layout import Line, Table

LINES_PER_FIGURE = 36  # in one figure: more would not fit a page
TITLE_LETTERS = 38
OURS, PAPER = COLOURS[0], COLOURS[1]


def forest_plots(tables: Sequence[Table]) -> list[Figure]:
    """Of every difference in `tables`, as many a figure as a page holds; differences without a test have no bar."""
    blocks = [block for table in tables for block in _blocks(table)]
    pages: list[list[tuple[str, list[Line]]]] = []
    room = 0
    for title, lines in blocks:
        needed = len(lines) + wrapped(title, TITLE_LETTERS).count("\n") + 2
        if needed > room:
            pages.append([])
            room = LINES_PER_FIGURE
        pages[-1].append((title, lines))
        room -= needed
    return [_forest_page(page) for page in pages]


def _blocks(table: Table) -> list[tuple[str, list[Line]]]:
    """The lines with a difference under the words that their labels share."""
    found = []
    for block in table.blocks:
        lines = [line for line in block if line.row.difference is not None]
        if lines:
            own = table.title if table.of_paper or table.method != "warmup" else ""
            shared = ", ".join(lines[0].labels[:-1])
            found.append((": ".join(part for part in (own, shared) if part), lines))
    return found


def _forest_page(blocks: Sequence[tuple[str, Sequence[Line]]]) -> Figure:
    titles = [wrapped(title, TITLE_LETTERS) for title, _ in blocks]
    sizes = [len(lines) for _, lines in blocks]
    height = 0.16 * sum(sizes) + sum(0.13 * title.count("\n") + 0.35 for title in titles) + 0.45
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(len(blocks), 1, squeeze=False, sharex=True, height_ratios=sizes)[:, 0]
    handles: dict[str, Any] = {}
    of_paper = any(line.paper is not None for _, lines in blocks for line in lines)
    for axes, title, (_, lines) in zip(grid, titles, blocks, strict=True):
        axes.set_title(title, loc="left")
        _draw_differences(axes, lines, handles, "ours, " if of_paper else "")
        axes.tick_params(labelbottom=axes is grid[-1])
    grid[-1].set_xlabel("warmup minus SFT (points)")
    tested = any(line.row.test for _, lines in blocks for line in lines)
    add_legend(figure, handles, "bars: 95% confidence intervals" if tested else None)
    return figure


def _draw_differences(axes: Axes, lines: Sequence[Line], handles: dict[str, Any], whose: str) -> None:
    """From the top down; a filled dot is significant, a hollow one is not. `whose` tells ours from the paper's."""
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    for height, line in enumerate(lines):
        row = line.row
        assert row.difference is not None
        if row.test:
            axes.plot([row.test.low, row.test.high], [height, height], color=OURS, linewidth=1.2)
        name = f"{whose}{'significant' if line.significant else 'not significant'}"
        face = OURS if line.significant else "white"
        (dot,) = axes.plot(row.difference, height, "o", color=OURS, markerfacecolor=face, markersize=4, zorder=3)
        handles.setdefault(name, dot)
        if line.paper is not None:
            (mark,) = axes.plot(line.paper, height, "D", color=PAPER, markersize=3.5, zorder=2)
            handles.setdefault("paper", mark)
    axes.set_yticks(range(len(lines)), [line.labels[-1] for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
