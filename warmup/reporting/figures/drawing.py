"""Every figure of a set of runs, as PNG and SVG: which there are, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from warmup.reporting.figures.curves import learning_curves
from warmup.reporting.figures.differences import forest_plots
from warmup.reporting.figures.gauges import gauge_figures
from warmup.reporting.figures.histories import read_histories
from warmup.reporting.figures.panels import panels_of
from warmup.reporting.figures.style import FORMATS, add_letters, figure_style, write_figure
from warmup.reporting.figures.tradeoffs import quality_against_cost, quality_against_samples
from warmup.reporting.tables.layout import Table
from warmup.runs.finding import Run, newest_runs
from warmup.runs.short_labels import ShortLabels

FIGURE_TITLES = {
    "learning_curves": "Learning curves of SFT and warmup; bands show the spread over seeds",
    "differences": "Differences of warmup and SFT with their confidence intervals",
    "quality_against_samples": "Quality against the number of warmups sampled in training, K",
    "quality_against_cost": "Quality against the cost of training",
    "warmup_gauges": "Gauges of the warmups over training",
}


def write_figures(runs: Sequence[Run], tables: Sequence[Table], output: Path) -> tuple[list[Path], list[str]]:
    """Draw `runs` and the differences of their `tables` into `output`; a figure without a point is not written.

    Those of `FIGURE_TITLES`, each .png and .svg. What does not fit one page goes on in `..._2`; of the gauges each
    experiment has a page.

    Returns:
        The files written, and a line for each history that cannot be drawn.

    Raises:
        UserError: the folder cannot be written.
    """
    with figure_style():
        figures, notes = _figures_by_name(runs, tables)
        return [file for name, figure in figures.items() for file in write_figure(figure, output / name)], notes


def figure_files(runs: Sequence[Run], tables: Sequence[Table]) -> list[str]:
    """The names of the files that `write_figures` writes."""
    with figure_style():
        return [name + suffix for name in _figures_by_name(runs, tables)[0] for suffix in FORMATS]


def _figures_by_name(runs: Sequence[Run], tables: Sequence[Table]) -> tuple[dict[str, Figure], list[str]]:
    kept, _ = newest_runs(runs)
    histories, notes = read_histories(kept)
    panels = panels_of(kept)
    drawn: dict[str, list[Figure]] = {
        "learning_curves": learning_curves(panels, histories),
        "differences": forest_plots(tables),
        "quality_against_samples": quality_against_samples(panels),
        "quality_against_cost": quality_against_cost(panels),
        "warmup_gauges": gauge_figures(panels, histories),
    }
    legend = ShortLabels(kept).legend
    for figure in (figure for pages in drawn.values() for figure in pages):
        add_letters(figure, legend)
    numbered = {name: enumerate(pages, start=1) for name, pages in drawn.items()}
    return {
        name if number == 1 else f"{name}_{number}": figure
        for name, pages in numbered.items()
        for number, figure in pages
    }, notes
