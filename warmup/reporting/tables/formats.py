"""Tables as a terminal, Markdown, LaTeX and a spreadsheet want them; every label is escaped for its reader."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from warmup.metrics.registry import larger_is_better, score_title
from warmup.reporting.tables.layout import EMPTY, STAR, Line, Report, Table
from warmup.runs.comparison import Cell

NOTHING = "No run has finished."


def columns(table: Table, p_values: bool = False) -> list[tuple[str, list[str]]]:
    """The columns of numbers, each a name and a text per line; those that this table has nothing for are left out."""
    lines = table.lines
    shown = [
        ("SFT", [_mean(line.row.sft) for line in lines]),
        ("warmup", [_mean(line.row.warmup) for line in lines]),
        ("difference", [_difference(line) for line in lines]),
        ("95% CI", [_interval(line) for line in lines]),
        ("p (Holm)", [_p_value(line) for line in lines]),
        ("paper", [signed(line.paper) for line in lines]),
        ("chance", [_chance(line) for line in lines]),
        ("n", [_seeds(line) for line in lines]),
    ]
    optional = {"95% CI", "chance", "p (Holm)"} | (set() if table.of_paper else {"paper"})
    dropped = set() if p_values else {"p (Holm)"}
    return [
        (name, cells)
        for name, cells in shown
        if name not in dropped and (name not in optional or any(cell != EMPTY for cell in cells))
    ]


def signed(value: float | None) -> str:
    """A difference with its sign: "+1.57", "-0.30", "0.00"."""
    shown = EMPTY if value is None else f"{value:+.2f}"
    return "0.00" if shown in ("+0.00", "-0.00") else shown


def _mean(cell: Cell | None) -> str:
    if cell is None:
        return EMPTY
    return f"{cell.mean:.2f}" if cell.deviation is None else f"{cell.mean:.2f} ± {cell.deviation:.2f}"


def _difference(line: Line) -> str:
    return signed(line.row.difference) + (STAR if line.significant else "")


def _interval(line: Line) -> str:
    test = line.row.test
    return EMPTY if test is None else f"[{test.low:z.2f}, {test.high:z.2f}]"


def _p_value(line: Line) -> str:
    if line.p_value is None:
        return EMPTY
    return f"{line.p_value:.3f}" if line.p_value >= 0.001 else "<0.001"


def _chance(line: Line) -> str:
    chance = line.row.chance
    return f"{chance['uniform']:.1f}/{chance['majority']:.1f}" if chance else EMPTY


def _seeds(line: Line) -> str:
    sft, warmup = line.row.seeds
    paired = len(line.row.paired_seeds)
    number = f"{sft}/{warmup}" if sft and warmup and sft != warmup else str(max(sft, warmup) or EMPTY)
    return f"{number} ({paired})" if sft and warmup and paired < min(sft, warmup) else number


def print_report(report: Report, console: Console) -> None:
    """Print every table, its caption and the notes; differences are coloured where the console has colours.

    Fits 80 columns.
    """
    said: set[str] = set()
    for table in report.tables:
        console.print(Text(table.title, style="bold"))
        console.print(_rich_table(table))
        for sentence in [*table.caption, *_only_printed(table)]:
            if sentence not in said:  # once is enough on one screen
                console.print(Text(f"  {sentence}", style="dim"))
            said.add(sentence)
        console.print()
    if not report.tables:
        console.print(NOTHING)
    for note in report.notes:
        console.print(Text(f"- {note}"))


def _rich_table(table: Table) -> RichTable:
    """Labels of a block stand above each other in one column, so that a block of several metrics needs no more."""
    seeds = {cells for name, column in columns(table) if name == "n" for cells in column} - {EMPTY}
    dropped = {"chance", "n"} if len(seeds) == 1 and seeds.pop().isdecimal() else {"chance"}
    shown = [column for column in columns(table) if column[0] not in dropped]
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    stacked = table.label_names[:-1]
    if stacked:
        drawn.add_column(", ".join(stacked), overflow="fold")
    drawn.add_column(table.label_names[-1], no_wrap=True)
    for name, _ in shown:
        drawn.add_column(name, justify="right", no_wrap=True)
    start = 0
    for block in table.blocks:
        if start:
            drawn.add_row()
        rows = [[cells[start + i].replace(" ± ", "±") for _, cells in shown] for i in range(len(block))]
        texts = [
            Text("\n").join(_styled(row[i], shown[i][0], line) for row, line in zip(rows, block, strict=True))
            for i in range(len(shown))
        ]
        labels = [Text("\n".join(block[0].labels[:-1]))] if stacked else []
        drawn.add_row(*labels, Text("\n".join(line.labels[-1] for line in block)), *texts)
        start += len(block)
    return drawn


def _only_printed(table: Table) -> list[str]:
    """What other formats have columns for, in words, since a terminal has no room for them."""
    levels = {f"{_chance(line)} ({line.row.label}: {line.labels[-1]})": None for line in table.lines if line.row.chance}
    return [f"Chance levels: {', '.join(levels)}."] if levels else []


def _styled(text: str, column: str, line: Line) -> Text:
    colour = {"better": "green", "worse": "red"}.get(verdict(text, line), "") if column == "difference" else ""
    return Text(text, style=colour)


def verdict(difference: str, line: Line) -> str:
    """`better` or `worse` for a difference as it is shown, by the direction of the line's score; "" for none."""
    signs = "+-" if larger_is_better(line.row.metric) else "-+"
    return dict(zip(signs, ("better", "worse"), strict=True)).get(difference[:1], "")


def markdown(report: Report) -> str:
    """A page: each table under its title, its caption, and at the end notes and signatures."""
    parts = ["# SFT against warmup"]
    for table in report.tables:
        shown = columns(table, p_values=True)
        header = [*table.label_names, *(name for name, _ in shown)]
        rule = ["---"] * len(table.label_names) + ["---:"] * len(shown)
        rows = [
            [*map(markdown_text, line.labels), *(markdown_text(cells[number]) for _, cells in shown)]
            for number, line in enumerate(table.lines)
        ]
        heading = [] if len(report.tables) == 1 and not table.of_paper else [f"## {markdown_text(table.title)}"]
        grid = "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
        parts += [*heading, grid, markdown_text(" ".join(table.caption))]
    if not report.tables:
        parts.append(NOTHING)
    notes = [f"- {markdown_text(note)}" for note in report.notes]
    for metric, signatures in report.signatures.items():
        spans = ", ".join("`" + signature.replace("`", "'") + "`" for signature in signatures)
        notes.append(f"- {markdown_text(score_title(metric))}: {spans}")
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table and next to HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def spreadsheet(report: Report) -> str:
    """CSV (RFC 4180, a header, a row per line of every table) with unrounded numbers; an empty field has no value."""
    output = io.StringIO()
    records = [_record(table, line) for table in report.tables for line in table.lines]
    writer = csv.writer(output)
    writer.writerow(records[0] if records else [])
    writer.writerows(["" if value is None else value for value in record.values()] for record in records)
    return output.getvalue()


def _record(table: Table, line: Line) -> dict[str, Any]:
    row, test = line.row, line.row.test
    chance = row.chance or {}
    record: dict[str, Any] = {"table": table.name}
    record |= {name: _csv_text(getattr(row, name)) for name in ("task", "model", "detail", "metric")}
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
