"""What every figure over training time has in common: curves with their bands, axes of steps, rows of panels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from warmup.reporting.figures.histories import SeedCurves
from warmup.reporting.figures.style import GREY, steps_axis, within

BAND = "band: ± one standard deviation over seeds"


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


@dataclass(frozen=True)
class Ends:
    """Where the values of a panel end: the least and the largest that there can be; `whole`: show all between them."""

    low: float | None = None
    high: float | None = None
    whole: bool = False


def finish_axes(axes: Axes, ends: Ends, sft_phases: Collection[float] = (), name_at_top: bool = True) -> dict[str, Any]:
    """Round ticks, the axis' ends, words where nothing was logged; this panel's lines for a legend, by label.

    Args:
        sft_phases: the last step of each phase of plain SFT that warmup runs here began with; shaded, and named.
    """
    if not axes.has_data():
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    handles = {name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.yaxis.set_major_locator(MaxNLocator(4))
    within(axes, ends.low, ends.high, ends.whole)
    steps_axis(axes)
    for end in sorted(set(sft_phases)):
        axes.axvspan(0, end, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    if sft_phases:
        narrow = max(sft_phases) < 0.45 * axes.get_xlim()[1]
        axes.annotate(
            "SFT phase",
            (max(sft_phases), 1 if name_at_top else 0),
            (-1, -1 if name_at_top else 1),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="top" if name_at_top else "bottom",
            rotation=90 if narrow else 0,
            fontsize=5.5,
            color="#444444",
        )
    return handles
