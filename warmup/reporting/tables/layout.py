"""The tables of a set of runs: the paper's in its own layout where runs fill its rows, one comparison for all others.

Layout only: the numbers come from `runs.comparison` and `runs.paired_tests`; `terminal`, `markdown`, `latex` and
`spreadsheet` write each table for its reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from warmup.errors import UserError
from warmup.metrics.registry import SCALE, larger_is_better, score_title
from warmup.metrics.significance import LEVEL, PairedComparison, holm
from warmup.reporting.tables.paper import PaperRows, paper_rows
from warmup.runs.comparison import Comparison, Row, compare_runs
from warmup.runs.finding import FoundRuns
from warmup.runs.metrics_records import METHOD_NAMES
from warmup.runs.paired_tests import add_tests
from warmup.runs.short_labels import Legend

NOTHING = "No run has finished."
NO_VALUE = "—"
STAR = "*"


@dataclass(frozen=True)
class Line:
    """One row as it is shown.

    Attributes:
        labels: one per label column of the table.
        row: the numbers; one without cells stays visibly empty.
        paper: the paper's difference, where the paper states one.
        p_value: of the row's test, after Holm's correction over the table.
    """

    labels: tuple[str, ...]
    row: Row
    paper: float | None = None
    p_value: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference is marked."""
        return self.p_value is not None and self.p_value <= LEVEL


@dataclass(frozen=True)
class Table:
    """Lines in blocks (divided by a rule), under a title, with the sentences that explain what the table shows.

    Attributes:
        name: of few plain letters, for a LaTeX label; unique in a report.
        label_names: the titles of the label columns.
        of_paper: whether it is one of the paper's tables, with the paper's differences beside ours.
        method: the one that is compared with SFT, as a record names it.
        legend: what each letter in its labels and title stands for, a line each.
    """

    name: str
    title: str
    label_names: tuple[str, ...]
    blocks: Sequence[Sequence[Line]]
    caption: Sequence[str]
    of_paper: bool = False
    method: str = "warmup"
    legend: Sequence[str] = ()

    @property
    def lines(self) -> list[Line]:
        """Of all blocks."""
        return [line for block in self.blocks for line in block]


@dataclass
class Report:
    """Every table of some folders and what a reader must know beside them.

    Attributes:
        notes: warnings, skipped metrics, repeated, failed and unreadable runs, a line each.
        signatures: of each score, by its name in the record.
    """

    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signatures: dict[str, list[str]] = field(default_factory=dict)


def report_on(found: FoundRuns) -> Report:
    """The tables of all runs that were found, and a note for each that is in none of them.

    Raises:
        UserError: nothing was found.
    """
    if not (found.runs or found.failed or found.notes):
        raise UserError("no finished run there; train one first, or name another folder with runs=FOLDER")
    comparison = compare_runs(found.runs)
    comparison.rows, untested = add_tests(comparison.rows)
    failed = [f"Failed: {path}: {reason}" for path, reason in found.failed]
    notes = [*comparison.notes, *untested, *found.notes, *failed]
    return Report(lay_out(comparison), notes, comparison.signatures)


def lay_out(comparison: Comparison) -> list[Table]:
    """The paper's tables that these runs fill, then one table of everything else, and one of the control."""
    papers = paper_rows(comparison.rows)
    names = _unique([paper.table.name for paper in papers])
    legend = comparison.legend
    tables = [_paper_table(paper, name, legend) for paper, name in zip(papers, names, strict=True)]
    shown = {id(row) for paper in papers for row in paper.rows.values()}
    others = [row for row in comparison.rows if id(row) not in shown]
    for method in dict.fromkeys(row.method for row in sorted(others, key=lambda row: row.method != "warmup")):
        title = "Other runs" if tables and method == "warmup" else f"SFT against {METHOD_NAMES[method]}"
        tables.append(_comparison_table([row for row in others if row.method == method], title, method, legend))
    return tables


def _unique(names: Sequence[str]) -> list[str]:
    """`translation`, `translation_2`, ..."""
    return [name + (f"_{names[:i].count(name) + 1}" if name in names[:i] else "") for i, name in enumerate(names)]


def _comparison_table(rows: Sequence[Row], title: str, method: str, legend: Legend) -> Table:
    blocks: dict[str, list[Line]] = {}
    for row in rows:
        model = f"{row.model} ({row.detail})" if row.detail else row.model
        line = Line((row.task, model, score_title(row.metric)), row)
        blocks.setdefault(row.label, []).append(line)
    name = "comparison" if method == "warmup" else f"comparison_{method}"
    table = _corrected_table(name, title, ("task", "model", "metric"), list(blocks.values()))
    return replace(table, legend=legend.lines([row.detail for row in rows]))


def _paper_table(paper: PaperRows, name: str, legend: Legend) -> Table:
    detail = legend.short(paper.settings)
    title = f"{paper.table.title} ({detail})" if detail else paper.table.title
    tasks, gains = paper.table.tasks, paper.table.gains

    def row(metric: str, task: str) -> Row:
        return paper.rows.get((metric, task)) or Row(task, paper.table.model, "", metric, None, None)

    if len(tasks) == 1:
        lines = [Line((score_title(metric),), row(metric, tasks[0]), gain) for metric, gain in gains.items()]
        table = _corrected_table(name, title, ("metric",), [lines], of_paper=True)
        return replace(table, legend=legend.lines([detail]))
    blocks = []
    for metric, gain in gains.items():
        label = score_title(metric)
        block = [Line((label, task.split()[-1]), row(metric, task)) for task in tasks]
        average = paper.averages.get(metric) or Row("average", paper.table.model, "", metric, None, None)
        blocks.append([*block, Line((label, "average"), average, gain)])
    table = _corrected_table(name, title, ("metric", "pair"), blocks, of_paper=True)
    return replace(table, legend=legend.lines([detail]))


def _corrected_table(
    name: str, title: str, label_names: tuple[str, ...], blocks: Sequence[Sequence[Line]], of_paper: bool = False
) -> Table:
    """Correct the p values of all lines together (Holm), and say in the caption what the table shows."""
    tested = [line.row.test for block in blocks for line in block if line.row.test]
    corrected = dict(zip(map(id, tested), holm([test.p_value for test in tested]), strict=True))
    blocks = [[replace(line, p_value=corrected.get(id(line.row.test))) for line in block] for block in blocks]
    method = blocks[0][0].row.method
    return Table(name, title, label_names, blocks, _caption(blocks, of_paper), of_paper, method)


def _caption(blocks: Sequence[Sequence[Line]], of_paper: bool) -> list[str]:
    lines = [line for block in blocks for line in block]
    rows = [line.row for line in lines]
    cells = [cell for row in rows for cell in (row.sft, row.warmup) if cell]
    method = METHOD_NAMES[rows[0].method]
    text = [f"Difference: mean of {method} minus mean of SFT over the seeds that both have; all scores are {SCALE}."]
    if not all(larger_is_better(row.metric) for row in rows):
        text.append("↓: smaller is better, and a negative difference a gain.")
    counts = {len(cell.values) for cell in cells}
    if counts == {1}:
        text.append("One seed each, so nothing is known of the spread over seeds.")
    elif counts:
        text.append(f"±: sample standard deviation over {'n' if len(counts) > 1 else counts.pop()} seeds.")
    if any(row.seeds[0] != row.seeds[1] and all(row.seeds) for row in rows):
        text.append(f"n: seeds of SFT/{method} where the two differ.")
    if any(all(row.seeds) and len(row.paired_seeds) < min(row.seeds) for row in rows):
        text.append("n, in brackets: the seeds that both have, where they are fewer.")
    if any(row.chance for row in rows):
        text.append("Chance: guessing every label alike / always giving the most frequent label.")
    text += _about_tests(lines)
    if of_paper:
        averaged = ", an average over the eight pairs" if len(blocks) > 1 else ""
        text.append(f"Paper: the difference that arXiv 2502.12304 reports{averaged}.")
    if len(blocks) > 1 and of_paper:
        text.append("Average: over the seeds that all pairs have; empty until every pair is there; not tested.")
    if any(row.sft is None or row.warmup is None for row in rows):
        text.append(f"{NO_VALUE}: not run or not scored.")
    return text


def _about_tests(lines: Sequence[Line]) -> list[str]:
    """How significance was decided, and that nothing is significant where nothing is marked."""
    tests = [line.row.test for line in lines if line.row.test]
    if not tests:
        return []
    kinds = " or ".join(sorted({_kind(test) for test in tests}))
    corrected = f" after Holm's correction over the {len(tests)} tests of this table" if len(tests) > 1 else ""
    by = f"at {LEVEL}{corrected} ({kinds})"
    marked = any(line.significant for line in lines)
    found = f"{STAR}: significant {by}." if marked else f"No difference is significant {by}."
    return [found, "95% CI: confidence interval of the difference, paired bootstrap over test examples."]


def _kind(test: PairedComparison) -> str:
    exact = "exact McNemar test" if test.seeds == 1 else "exact paired test"
    return "paired approximate randomisation" if test.p_exact is None else exact
