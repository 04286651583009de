"""Tables for a terminal of 80 columns; text is never markup."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from warmup.reporting.tables.cells import columns, in_caption, verdict
from warmup.reporting.tables.layout import NOTHING, Line, Report, Table

SAID_BELOW = {"chance", "n"}  # a terminal has no room for their columns


def print_report(report: Report, console: Console) -> None:
    """Print every table, its caption and the notes; differences are coloured where the console has colours.

    Fits 80 columns.
    """
    said: set[str] = set()
    for table in report.tables:
        console.print(Text(table.title, style="bold"))
        console.print(_rich_table(table))
        for sentence in [*table.legend, *table.caption, *in_caption(table, SAID_BELOW)]:
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
    shown = columns(table, without=SAID_BELOW)
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


def _styled(text: str, column: str, line: Line) -> Text:
    colour = {"better": "green", "worse": "red"}.get(verdict(text, line), "") if column == "difference" else ""
    return Text(text, style=colour)
