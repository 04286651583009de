"""The figures as a table of ratios to SFT."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from warmup.studies.benchmark.workloads import Shape

Values = dict[str, float | None] | None  # of each way; None where it was not asked for, or the machine does not tell


def print_table(results: list[dict[str, Any]], console: Console) -> None:
    """Ratios to SFT, a row per way."""
    table = Table(
        title="Cost of a training step, SFT = 1.00",
        caption="shape: tokens of source/target/warmup, inputs of a batch\n"
        "operations: of matrix products, sampling included\n"
        "a step is forward and backward, without dropout and optimiser;\n"
        "as trained: with the model's own dropout, gradient clipping and AdamW",
    )
    for name in ("workload", "shape", "way"):
        table.add_column(name)
    for name in ("operations", "wall-clock", "s/step", "CPU time", "tokens/s", "memory", "MB"):
        table.add_column(name, justify="right")
    for result in results:
        shape = Shape(**result["shape"])
        names = list(result.get("operations", result.get("seconds", {})))
        for number, name in enumerate(sorted(names, key=_order)):
            head = (result["workload"], f"{shape.source}/{shape.target}/{shape.warmup}, {shape.batch}")
            cells = [_ratio(result.get("operations"), name), _ratio(result.get("seconds"), name)]
            cells += [_scaled(result.get("seconds"), name, "{:.3f}", 1)]
            cells += [_ratio(result.get("cpu_seconds"), name)]
            cells += [_scaled(result.get("tokens_per_second"), name, "{:,.0f}", 1)]
            cells += [
                _ratio(result.get("peak_bytes"), name),
                _scaled(result.get("peak_bytes"), name, "{:,.0f}", 2**20),
            ]
            table.add_row(*(head if not number else ("", "")), name, *cells)
        table.add_section()
    console.print(table)


def _order(name: str) -> tuple[int, str]:
    return (0 if name == "SFT" else int(name.rpartition("=")[2]), name)


def _ratio(values: Values, name: str) -> str:
    value, unit = (values or {}).get(name), (values or {}).get("SFT")
    return f"{value / unit:.2f}" if value and unit else "—"


def _scaled(values: Values, name: str, form: str, unit: float) -> str:
    value = (values or {}).get(name)
    return "—" if value is None else form.format(value / unit)
