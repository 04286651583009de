"""How figures look and are written: one column of a paper wide, colour-blind safe, the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, MaxNLocator

from warmup.files import write_bytes
from warmup.runs.file_names import RunFile
from warmup.runs.finding import natural_order
from warmup.runs.short_labels import Legend

# Okabe and Ito's palette, which colour-blind readers can tell apart; dashes and markers do so in black and white.
SFT_STYLE = {"color": "#0072B2", "linestyle": "--", "marker": "s"}
COLOURS = ["#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "^", "D", "v", "P", "X"]
DASHES = ["-", ":", "-."]
WIDTH = 3.3  # inches: one column of a paper
LINE_LETTERS = 48  # that fit into a title of that width
FOOT_LETTERS, MOST_LETTERED = 66, 6  # of a line below the figure, and how many labels are explained there
LINE = 0.13  # inches from one line of text to the next
GREY = "#777777"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "text.parse_math": False,  # a label with a $ is no formula
    "svg.hashsalt": "warmup",  # otherwise every drawing has other ids
    "svg.fonttype": "path",  # letters as outlines: no reader's fonts can cut them off
}
FORMATS = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}  # each with no trace of when and how


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib set up as the figures need it; a letter that the font lacks is a box, and no warning."""
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def warmup_style(number: int) -> dict[str, Any]:
    """Of the number-th variant of warmup: colour, dash and marker."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def wrapped(text: str, letters: int = LINE_LETTERS, most_lines: int = 2) -> str:
    """`text` on at most two lines; a word longer than a line goes on after its own `_`, `/` or `-`, never elsewhere.

    What does not fit ends in "…".
    """
    lines = [""]
    for word in text.split():
        parts = [word] if len(word) <= letters else re.findall(r"[^_/-]*[_/-]|[^_/-]+", word)
        for number, part in enumerate(parts):
            joined = f"{lines[-1]} {part}" if lines[-1] and not number else lines[-1] + part
            if len(joined) <= letters or not lines[-1]:
                lines[-1] = joined
            else:
                lines.append(part)
    lines = [line if len(line) <= letters else f"{line[: letters - 1]}…" for line in lines]
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], f"{lines[most_lines - 1][: letters - 1]}…"]
    return "\n".join(lines)


def extra_height(*titles: str) -> float:
    """Inches that the longest of `titles`, which stand side by side, takes more than a single line."""
    return LINE * max(title.count("\n") for title in titles)


def within(axes: Axes, low: float | None = None, high: float | None = None, whole: bool = False) -> None:
    """End the y axis where values can; one that is constant to three digits is drawn level, not as noise.

    `whole`: all of the range between both ends is shown.
    """
    if not axes.has_data():
        return
    least, most = axes.dataLim.ymin, axes.dataLim.ymax
    constant = f"{least:.3g}" == f"{most:.3g}"
    room = max(0.05 * (most - least), (0.1 if constant else 0.01) * max(abs(least), abs(most))) or 0.5
    bottom = least - room if low is None else max(low, least - room)
    top = most + room if high is None else min(high, most + room)
    if whole and low is not None and high is not None and low < high:
        bottom, top = low, high
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=high > 1, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(bottom, top)
    for line in axes.get_lines():
        heights = np.asarray(line.get_ydata(), dtype=float)
        if ((heights >= bottom) & (heights <= top)).all():
            line.set_clip_on(False)  # a marker on the end of the axis stays whole


def from_zero(axes: Axes) -> None:
    """The x axis from 0 to a little after the last point, whose marker would else be cut in half."""
    axes.set_xlim(0, 1.05 * axes.dataLim.xmax if axes.has_data() and axes.dataLim.xmax > 0 else 1)


def steps_axis(axes: Axes) -> None:
    """Optimiser steps from 0, as 0, 5k, 10k."""
    from_zero(axes)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def add_legend(figure: Figure, handles: dict[str, Any], note: str | None = None) -> None:
    """Above everything, in as many columns as the width allows; `note` says what bands or bars are.

    The figure grows by what the legend takes, so that its panels stay as high as they were meant.
    """
    handles = dict(sorted(handles.items(), key=lambda item: natural_order(item[0])))  # SFT, then K = 4 before K = 16
    longest = max(map(len, handles))
    columns = max(1, min(len(handles), 3, LINE_LETTERS // (longest + 7)))
    labels = [wrapped(label, LINE_LETTERS - 6) for label in handles]
    rows = [labels[start : start + columns] for start in range(0, len(labels), columns)]
    lines = sum(max(label.count("\n") + 1 for label in row) for row in rows) + (note is not None)
    figure.set_figheight(figure.get_figheight() + 0.02 * len(rows) + LINE * lines)
    figure.legend(handles.values(), labels, loc="outside upper center", ncols=columns, title=note)


def add_letters(figure: Figure, legend: Legend) -> None:
    """What the letters in titles and labels stand for, below everything: two lines each, of the first six."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    used = legend.lines([re.sub(r"[\s()/]+", ", ", text.replace(",", " ")) for text in texts])
    if not used:
        return
    lines = [wrapped(line, FOOT_LETTERS) for line in used[:MOST_LETTERED]]
    lines += [f"further letters: {RunFile.TABLE_MARKDOWN}"] if len(used) > MOST_LETTERED else []
    text = "\n".join(lines)
    figure.set_figheight(figure.get_figheight() + 0.1 * (text.count("\n") + 1))
    figure.supxlabel(text, fontsize=5.5, x=0.02, ha="left", multialignment="left")


def write_figure(figure: Figure, path: Path) -> list[Path]:
    """Write PNG (300 dots per inch) and SVG beside each other, `path` without its suffix; each whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    written = []
    for suffix, metadata in FORMATS.items():
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix[1:], dpi=300, metadata=metadata)
        file = path.with_name(path.name + suffix)
        write_bytes(file, _with_numbered_ids(picture.getvalue()))
        written.append(file)
    return written


def _with_numbered_ids(picture: bytes) -> bytes:
    """An SVG whose hashed identifiers are numbers, in the order in which they stand there; a PNG as it is.

    matplotlib hashes all digits of a place, of which the layout solver's last ones differ from process to process.
    """
    hashed = dict.fromkeys(re.findall(rb'id="([mp][0-9a-f]{10})"', picture))
    for number, name in enumerate(hashed):
        picture = picture.replace(name, b"%c%010d" % (name[0], number))
    return picture
