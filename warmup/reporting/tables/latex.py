"""The tables as LaTeX (booktabs): a file that compiles by itself, and that a paper can \\input."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from warmup.reporting.tables.cells import columns
from warmup.reporting.tables.layout import NOTHING, Report, Table

SHORT = 50  # letters that certainly fit into one line
LINES_PER_PAGE = 45  # of a table on one page: longer ones go on in a further table
HEAD = r"""% SFT against warmup. Compiles by itself: pdflatex comparison.tex
% In a paper that loads booktabs: \input{comparison}
\def\comparisonends{}
\ifcsname ver@booktabs.sty\endcsname\else
  \def\comparisonends{\end{document}}
  \documentclass{article}
  \usepackage{booktabs}
  \begin{document}
\fi
"""
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "—": "---",
    "–": "--",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "ø": r"\o{}",
    "ł": r"\l{}",
    **{letter: "\\" + letter for letter in "#$%&_{}"},
}
# Combining marks of Unicode and the accents that LaTeX sets for them.
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."}
ACCENTS |= {"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k"}


def latex(report: Report) -> str:
    """Every table as a float with caption and label; notes stand in comments, for the eyes of the authors."""
    parts = [HEAD]
    for table in report.tables:
        parts += [_float(table, part, number) for number, part in enumerate(_page_parts(table))]
    if not report.tables:
        parts.append(NOTHING + "\n")
    parts += [f"% {latex_text(note)}\n" for note in report.notes]
    return "\n".join([*parts, "\\comparisonends\n"])


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


def _float(table: Table, blocks: Sequence[Sequence[int]], number: int) -> str:
    shown, lines = columns(table), table.lines
    width = 1 + len(shown)
    rows = []
    for block in blocks:
        heading = ", ".join(lines[block[0]].labels[:-1])
        if heading:  # a row of its own, so that a long label widens no column
            column = "l" if len(heading) <= SHORT else r"p{\linewidth}"
            rows.append(rf"\multicolumn{{{width}}}{{@{{}}{column}@{{}}}}{{\textit{{{latex_text(heading)}}}}} \\")
        for index in block:
            cells = [latex_text(lines[index].labels[-1]), *(_latex_number(cells[index]) for _, cells in shown)]
            rows.append(" & ".join(cells) + r" \\")
        rows.append(r"\midrule")
    rows[-1] = r"\bottomrule"
    caption = f"{table.title}. {' '.join(table.caption)}" if number == 0 else f"{table.title}, continued."
    label = f"tab:{table.name}" + (f"-{number + 1}" if number else "")
    header = [latex_text(table.label_names[-1]), *(latex_text(name) for name, _ in shown)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{{label}}}\vspace{{4pt}}",
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(shown)}@{{}}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *rows,
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_number(cell: str) -> str:
    """A cell of figures: a hyphen before a digit is a minus."""
    return re.sub(r"-(?=\d)", "$-$", latex_text(cell))
