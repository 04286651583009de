"""The tables as LaTeX (booktabs): a file that compiles by itself, and that a paper can \\input."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from warmup.reporting.tables.cells import columns, in_caption
from warmup.reporting.tables.layout import NOTHING, Report, Table

SHORT = 45  # letters that certainly fit into one line of a column
LINES_PER_PAGE = 45  # of a table on one page: longer ones go on in a further table
SAID_IN_CAPTION = {"chance", "n"}  # a column of a paper is narrow
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "_": r"\_\allowbreak{}",
    "/": r"/\allowbreak{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "—": "---",
    "–": "--",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "ø": r"\o{}",
    "ł": r"\l{}",
    **{letter: "\\" + letter for letter in "#$%&{}"},
}
# Combining marks of Unicode and the accents that LaTeX sets for them.
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."}
ACCENTS |= {"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k"}


def latex(report: Report) -> str:
    """Every table as a float with caption and label; notes stand in comments, for the eyes of the authors.

    A table that is wider than the column of the paper is made smaller by LaTeX, which alone knows that column.
    """
    floats = [_float(table, part, number) for table in report.tables for number, part in enumerate(_page_parts(table))]
    template = _environment().get_template("comparison.tex.jinja")
    return template.render(floats=floats, nothing=NOTHING, notes=report.notes, SHORT=SHORT)


def _environment() -> Environment:
    """Jinja2 whose every expression is escaped for LaTeX, and whose marks are none of LaTeX's own."""
    environment = Environment(
        loader=PackageLoader("warmup.reporting.tables", ""),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, _Latex) else latex_text(str(value)),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # which is for HTML: finalize does it
    )
    environment.filters["figures"] = _numbers
    return environment


class _Latex(str):
    """Text that is LaTeX already."""


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is; a letter that its standard fonts lack is named by its code point, as [U+4E2D]."""
    return "".join(_letters(" ".join(text.split())))


def _letters(text: str) -> Iterator[str]:
    before = ""
    for letter in text:
        decomposed = unicodedata.normalize("NFD", letter)
        if letter == before == "-":
            yield "{}-"  # two hyphens would become a dash
        elif letter in ESCAPES:
            yield ESCAPES[letter]
        elif letter.isascii():
            yield letter
        elif len(decomposed) == 2 and decomposed[0].isascii() and decomposed[1] in ACCENTS:
            base = {"i": r"\i", "j": r"\j"}.get(decomposed[0], decomposed[0])
            yield f"\\{ACCENTS[decomposed[1]]}{{{base}}}"
        else:
            yield f"[U+{ord(letter):04X}]"
        before = letter


def _page_parts(table: Table) -> Iterator[list[Sequence[int]]]:
    """The numbers of each block's lines, as many blocks together as a page holds."""
    part: list[Sequence[int]] = []
    start = size = 0
    for block in table.blocks:
        if part and size + len(block) + 2 > LINES_PER_PAGE:  # a heading and a rule
            yield part
            part, size = [], 0
        part.append(range(start, start + len(block)))
        start, size = start + len(block), size + len(block) + 2
    yield part


def _float(table: Table, blocks: Sequence[Sequence[int]], number: int) -> dict[str, Any]:
    """What the template reads of one table, or of the part of it that fits a page."""
    shown, lines = columns(table, p_values=True, without=SAID_IN_CAPTION), table.lines
    found = []
    for block in blocks:
        rows = [(lines[index].labels[-1], [cells[index] for _, cells in shown]) for index in block]
        # the other labels have a row of their own, so that a long one widens no column
        found.append({"heading": ", ".join(lines[block[0]].labels[:-1]), "rows": rows})
    caption = [f"{table.title}, continued."]
    if number == 0:
        caption = [f"{table.title}.", *table.caption, *in_caption(table, SAID_IN_CAPTION)]
    return {
        "name": f"{table.name}-{number + 1}" if number else table.name,
        "caption": " ".join(caption),
        "label_name": table.label_names[-1],
        "columns": [name for name, _ in shown],
        "blocks": found,
        "legend": table.legend if number == 0 else [],
    }


def _numbers(cell: str) -> _Latex:
    """A cell of figures: a hyphen before a digit is a minus, and the spread is set small."""
    mean, spread, deviation = cell.partition(" ± ")
    text = re.sub(r"-(?=\d)", "$-$", latex_text(mean))
    return _Latex(f"{text}$_{{\\pm {deviation}}}$" if spread else text)
