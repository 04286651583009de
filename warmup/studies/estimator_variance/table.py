"""The figures of one model as a table in Markdown, as docs/estimators.md shows it."""

from __future__ import annotations

import itertools
from typing import Any

from rich import box
from rich.table import Table

from warmup.studies.estimator_variance.comparison import (
    BASELINES,
    MEASURED_OBJECTIVES,
    SAMPLE_COUNTS,
    SAMPLERS,
    TABLE_K,
    ModelErrors,
)


def estimator_table(errors: ModelErrors) -> Table:
    """In Markdown: bias and variance of each objective and sampler at each K, with the default baseline."""
    table = Table(box=box.MARKDOWN)
    for name in ("objective", "sampler"):
        table.add_column(name)
    names = [f"{name}, K={count}" for name in ("bias²", "variance") for count in SAMPLE_COUNTS]
    for name in [*names, f"cosine, K={TABLE_K}", *(f"warmup term, {kind}" for kind in BASELINES)]:
        table.add_column(name, justify="right")
    rows = {(row["objective"], row["sampler"], row["baseline"], row["samples"]): row for row in errors.results}
    for objective, sampler in itertools.product(dict(MEASURED_OBJECTIVES), SAMPLERS):
        found = [rows.get((objective, sampler, "mean", count)) for count in SAMPLE_COUNTS]
        if any(found):
            cells = [_rounded(row, name) for name in ("bias", "variance") for row in found]
            cells.append(_rounded(rows[objective, sampler, "mean", TABLE_K], "cosine"))
            cells += [_rounded(rows.get((objective, sampler, kind, TABLE_K)), "warmup_variance") for kind in BASELINES]
            table.add_row(objective, sampler, *cells)
    return table


def _rounded(row: dict[str, Any] | None, name: str) -> str:
    """Two significant figures; an upper limit where a bias is lost in its error."""
    if row is None:
        return "—"
    value, error = row[name], row[f"{name}_error"]
    if name == "bias" and value < 2 * error:
        return f"<{_significant(max(value, 0) + 2 * error, 1)}"
    return _significant(value, 2)


def _significant(value: float, figures: int) -> str:
    scientific = f"{value:.{figures - 1}e}"
    places = figures - 1 - int(scientific.partition("e")[2])
    return scientific if value < 1e-4 else f"{float(scientific):.{max(0, places)}f}"
