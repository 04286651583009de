"""What every figure over training time has in common: curves with their bands, axes of steps, rows of panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from warmup.reporting.figures.histories import SeedCurves
from warmup.reporting.figures.style import GREY, steps_axis

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


def finish_axes(axes: Axes, handles: dict[str, Any]) -> None:
    """Round ticks, words where nothing was logged, and this panel's lines for the figure's legend."""
    if not axes.has_data():
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    steps_axis(axes)
    handles.update({name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)})
