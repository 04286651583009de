"""Tables as a Markdown page."""

from __future__ import annotations

import re

from warmup.metrics.registry import score_title
from warmup.reporting.tables.cells import columns
from warmup.reporting.tables.layout import NOTHING, Report


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
        heading = [] if len(report.tables) == 1 and table.name == "comparison" else [f"## {markdown_text(table.title)}"]
        grid = "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
        legend = ["\n".join(f"- {markdown_text(line)}" for line in table.legend)] if table.legend else []
        parts += [*heading, grid, markdown_text(" ".join(table.caption)), *legend]
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
