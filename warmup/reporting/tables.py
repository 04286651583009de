"""The comparison of SFT with warmup over all runs of a folder, for the terminal and as Markdown."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmup.config.schema import METRIC_SCORES
from warmup.errors import UserError
from warmup.files import write_text
from warmup.reporting.runs import Run, failed_runs, find_runs, group_by, newest_runs, varying_words

SCORE_NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF++",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "macro_f1": "macro F1",
    "comet": "COMET",
    "bertscore": "BERTScore",
}
SCORE_ORDER = [score for scores in METRIC_SCORES.values() for score in scores]
EMPTY = "–"


def score_name(score: str) -> str:
    """A score's name as papers write it."""
    return SCORE_NAMES.get(score, score)


@dataclass(frozen=True)
class Cell:
    """A score over seeds: its mean, the sample standard deviation (None for one seed) and the number of seeds."""

    mean: float
    deviation: float | None
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.deviation is None else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Row:
    """One metric of one comparison; a method that was not run has no cell.

    Attributes:
        detail: what tells this row from others of the same task and model, in words; often empty.
        chance: {"uniform": percent, "majority": percent}, for metrics of labels.
    """

    task: str
    model: str
    detail: str
    metric: str
    sft: Cell | None
    warmup: Cell | None
    chance: dict[str, float] | None = None

    @property
    def label(self) -> str:
        """Task, model and detail on one line."""
        return ", ".join(part for part in (self.task, self.model, self.detail) if part)

    @property
    def difference(self) -> float | None:
        """Mean of warmup minus mean of SFT: negative where warmup loses."""
        return None if self.sft is None or self.warmup is None else self.warmup.mean - self.sft.mean


@dataclass
class Comparison:
    """The rows, what a reader must know to read them, and the signature of each metric."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signatures: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """One variant of warmup (or none that was run) and the SFT runs it is compared with."""

    experiment: dict[str, str]
    variant: dict[str, str]
    sft: list[Run]
    warmup: list[Run]


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compare SFT, averaged over its seeds, with each variant of warmup, for every experiment among `runs`."""
    kept, repeated = newest_runs(runs)
    groups = []
    for experiment, same in group_by(kept, "experiment"):
        sft = [run for run in same if run.method == "sft"]
        variants = group_by([run for run in same if run.method == "warmup"], "variant")
        groups += [_Group(experiment, variant, sft, warmup) for variant, warmup in variants or [({}, [])]]
    rows, warnings = [], []
    for group, detail in zip(groups, _details(groups), strict=True):
        rows += _rows(group, detail)
        warnings += _warnings(group, detail)
    return Comparison(rows, [*_explanations(rows), *warnings, *_skipped(kept), *repeated], _signatures(kept))


def write_comparison(folder: Path, output: Path | None = None) -> Comparison:
    """Compare all runs in `folder` and below, and write `comparison.md` into `output` (by default `folder`).

    Raises:
        UserError: no run has finished or failed there, a `metrics.json` is broken, or the folder cannot be written.
    """
    runs, failed = find_runs(folder), failed_runs(folder)
    if not runs and not failed:
        raise UserError(f"{folder} holds no finished run; train one first, or name another folder with runs=FOLDER")
    comparison = compare_runs(runs)
    comparison.notes += [f"Failed: {path}: {reason}" for path, reason in failed]
    write_text((output or folder) / "comparison.md", markdown_table(comparison))
    return comparison


def print_table(comparison: Comparison, console: Console) -> None:
    """Print the comparison; differences are green or red where the console has colours. Fits 80 columns."""
    has_chance = any(row.chance for row in comparison.rows)
    # a full table leaves no room for a second space between columns
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0 if has_chance else (0, 1, 0, 0))
    table.add_column("task, model", overflow="fold")
    for name in ["metric", "SFT", "warmup", "difference", *(["chance"] if has_chance else []), "n"]:
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    labels: dict[str, list[Row]] = defaultdict(list)
    for row in comparison.rows:
        labels[row.label].append(row)
    for number, (_, rows) in enumerate(labels.items()):
        if number:
            table.add_row()
        cells = [_cells(row) for row in rows]
        columns = [Text("\n".join(column)) for column in zip(*cells, strict=True)]
        columns[3] = Text("\n").join(Text(shown, style=_colour(shown)) for _, _, _, shown, *_ in cells)
        if not has_chance:
            del columns[4]
        head = rows[0]
        table.add_row(Text("\n".join(part for part in (head.task, head.model, head.detail) if part)), *columns)
    console.print(table if comparison.rows else "No run has finished.")
    for note in comparison.notes:
        console.print(Text(f"- {note}"))


def markdown_table(comparison: Comparison) -> str:
    """The comparison as a Markdown page: table, notes, signatures."""
    has_chance = any(row.chance for row in comparison.rows)
    header = ["task", "model", "metric", "SFT", "warmup", "difference", "chance", "seeds"]
    lines = [header, ["---"] * 3 + ["---:"] * 5]
    for row in comparison.rows:
        model = f"{row.model} ({row.detail})" if row.detail else row.model
        lines.append([_escape(cell) for cell in (row.task, model, *_cells(row))])
    if not has_chance:
        lines = [line[:6] + line[7:] for line in lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) if comparison.rows else "No run has finished."
    notes = [f"- {_escape(note)}" for note in comparison.notes]
    for metric, signatures in comparison.signatures.items():
        spans = ", ".join("`" + signature.replace("`", "'") + "`" for signature in signatures)
        notes.append(f"- {_escape(score_name(metric))}: {spans}")
    return "\n".join(["# SFT against warmup", "", table, "", *notes, ""])


def _details(groups: Sequence[_Group]) -> list[str]:
    """What tells each group from the others of its task and model, in words."""
    details = [""] * len(groups)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        alike[group.experiment["task"], group.experiment["model"]].append(index)
    for indices in alike.values():
        with_warmup = [index for index in indices if groups[index].warmup]
        words = dict(zip(indices, varying_words([groups[index].experiment for index in indices]), strict=True))
        variants = varying_words([groups[index].variant for index in with_warmup])
        variant_words = dict(zip(with_warmup, variants, strict=True))
        for index in indices:
            details[index] = ", ".join(part for part in (words[index], variant_words.get(index, "")) if part)
    return details


def _rows(group: _Group, detail: str) -> list[Row]:
    runs = [*group.sft, *group.warmup]
    found = {metric for run in runs for metric in run.scores}
    rows = []
    for metric in sorted(found, key=_order):
        levels = [run.chance[metric] for run in runs if metric in run.chance]
        chance = {way: statistics.fmean(level[way] for level in levels) for way in levels[0]} if levels else None
        cells = (_cell(group.sft, metric), _cell(group.warmup, metric))
        rows.append(Row(group.experiment["task"], group.experiment["model"], detail, metric, *cells, chance))
    return rows


def _cell(runs: Sequence[Run], metric: str) -> Cell | None:
    values = [run.scores[metric].value for run in runs if metric in run.scores]
    if not values:
        return None
    return Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def _cells(row: Row) -> list[str]:
    """Metric, SFT, warmup, difference, chance, seeds as they are shown."""
    difference, chance = EMPTY, EMPTY
    if row.difference is not None:
        difference = f"{row.difference:+.2f}"
        difference = "0.00" if difference in ("+0.00", "-0.00") else difference
    if row.chance:
        chance = "/".join(f"{row.chance[way]:.1f}" for way in ("uniform", "majority"))
    counts = [cell.seeds if cell else 0 for cell in (row.sft, row.warmup)]
    seeds = str(counts[0]) if counts[0] == counts[1] else f"{counts[0]}/{counts[1]}"
    return [score_name(row.metric), str(row.sft or EMPTY), str(row.warmup or EMPTY), difference, chance, seeds]


def _explanations(rows: Sequence[Row]) -> list[str]:
    """How to read the columns that this table has."""
    lines = ["Difference: mean of warmup minus mean of SFT; all scores are in percent (COMET times 100)."]
    cells = [cell for row in rows for cell in (row.sft, row.warmup) if cell]
    if any(cell.deviation is not None for cell in cells):
        lines.append("±: sample standard deviation over seeds.")
    if any(row.chance for row in rows):
        lines.append("Chance: guessing every label alike / always giving the most frequent label.")
    if any("/" in _cells(row)[-1] for row in rows):
        lines.append("Seeds: SFT/warmup where the two differ.")
    return lines if rows else []


def _warnings(group: _Group, detail: str) -> list[str]:
    """What makes a comparison less than it looks: answers that are no label, unlike tests, unlike signatures."""
    name = ", ".join(part for part in (group.experiment["task"], group.experiment["model"], detail) if part)
    runs = [*group.sft, *group.warmup]
    lines = []
    shares = []
    for title, same in (("SFT", group.sft), ("warmup", group.warmup)):
        invalid = [run.invalid_answers for run in same if run.invalid_answers is not None]
        if any(invalid):
            shares.append(f"{title} {100 * statistics.fmean(invalid):.1f}%")
    if shares:
        lines.append(f"Answers that are no label, counted as wrong: {', '.join(shares)} ({name}).")
    sizes = sorted({run.examples for run in runs})
    if len(sizes) > 1:
        lines.append(f"Not the same test: {name} was scored on {' and '.join(map(str, sizes))} examples.")
    for metric, signatures in _signatures(runs).items():
        if len(signatures) > 1:
            lines.append(f"Not the same metric: {score_name(metric)} of {name} has {len(signatures)} signatures.")
    return lines


def _skipped(runs: Sequence[Run]) -> list[str]:
    reasons: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for run in runs:
        for metric, reason in run.skipped.items():
            reasons[reason].add(metric)
        for reason in set(run.skipped.values()):
            counts[reason] += 1
    lines = []
    for reason, metrics in sorted(reasons.items(), key=lambda item: min(_order(metric) for metric in item[1])):
        names = ", ".join(score_name(metric) for metric in sorted(metrics, key=_order))
        lines.append(f"Skipped: {names} in {counts[reason]} run{'s' if counts[reason] > 1 else ''}: {reason}")
    return lines


def _signatures(runs: Iterable[Run]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for metric, score in run.scores.items():
            found[metric].add(score.signature)
    return {metric: sorted(found[metric]) for metric in sorted(found, key=_order)}


def _order(metric: str) -> tuple[int, str]:
    return (SCORE_ORDER.index(metric) if metric in SCORE_ORDER else len(SCORE_ORDER), metric)


def _colour(difference: str) -> str:
    return "green" if difference.startswith("+") else "red" if difference.startswith("-") else ""


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table and next to HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)
