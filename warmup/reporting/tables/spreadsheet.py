"""Tables as CSV with unrounded numbers."""

from __future__ import annotations

import csv
import io
from typing import Any

from warmup.reporting.tables.layout import Line, Report, Table


def spreadsheet(report: Report) -> str:
    """CSV (RFC 4180, a header, a row per line of every table) with unrounded numbers; an empty field has no value."""
    output = io.StringIO()
    records = [_csv_record(table, line) for table in report.tables for line in table.lines]
    writer = csv.writer(output)
    writer.writerow(records[0] if records else [])
    writer.writerows(["" if value is None else value for value in record.values()] for record in records)
    return output.getvalue()


def _csv_record(table: Table, line: Line) -> dict[str, Any]:
    row, test = line.row, line.row.test
    chance = row.chance or {}
    record: dict[str, Any] = {"table": table.name, "method": row.method}  # whose figures those of `warmup` are
    record |= {name: _csv_text(getattr(row, name)) for name in ("task", "model", "detail", "metric")}
    record["legend"] = _csv_text("; ".join(table.legend))
    for method, cell, seeds in zip(("sft", "warmup"), (row.sft, row.warmup), row.seeds, strict=True):
        record |= {f"{method}_mean": cell and cell.mean, f"{method}_sd": cell and cell.deviation}
        record[f"{method}_seeds"] = seeds
    record |= {
        "paired_seeds": len(row.paired_seeds),
        "difference": row.difference,
        "ci_low": test and test.low,
        "ci_high": test and test.high,
    }
    for name in ("p_bootstrap", "p_randomisation", "p_exact"):
        record[name] = test and getattr(test, name)
    record |= {"p_holm": line.p_value, "significant": None if test is None else str(line.significant).lower()}
    record["paper_difference"] = line.paper
    record |= {f"chance_{way}": chance.get(way) for way in ("uniform", "majority")}
    record["test_signature"] = test and test.signature
    return record


def _csv_text(text: str) -> str:
    """A label that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
