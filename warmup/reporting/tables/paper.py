"""The rows of the paper's tables (arXiv 2502.12304), and which of our runs may stand in them.

Gains are warmup minus SFT in points, as the paper states them (docs/tables.md). Those of translation are averages
over its eight pairs: they stand beside our average and nowhere else.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from warmup.runs.comparison import Cell, Row
from warmup.runs.finding import Run

# What the presets of one table's tasks differ in on purpose: the languages, and where their data is on the hub.
OF_TASK = (
    *("paper", "task.source_language", "task.target_language", "task.hub."),
    *(f"data.{split}.{part}" for split in ("train", "validation", "test") for part in ("path", "name")),
)
LABEL_KEYS = {"task", "model", "data", "split"}
PAIRS = ["en-de", "de-en", "en-fr", "fr-en", "en-ru", "ru-en", "en-zh", "zh-en"]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        model: the published model's name without its owner.
        trained_on, tested_on: what the name of a data set must hold, in small letters and digits alone.
        tasks: our name of each row; more than one end in their average.
        gains: score name -> the paper's gain, in the paper's order of columns.
    """

    name: str
    title: str
    model: str
    trained_on: str
    tested_on: str
    tasks: Sequence[str]
    gains: Mapping[str, float]


LOGIQA = ("logiqa2", "logiqa2", ["logiqa"])
PAPER_TABLES = [
    PaperTable(
        "translation",
        "Translation, mT5-base: trained on WMT, tested on FLORES",
        "mt5-base",
        "wmt",
        "flores",
        [f"translation {pair}" for pair in PAIRS],
        {"bleu": 1.57, "comet": 1.32, "chrf": 1.60},
    ),
    PaperTable(
        "summarization",
        "Summarization, T5-base: XSum",
        "t5-base",
        "xsum",
        "xsum",
        ["summarization"],
        {"rouge1": 0.45, "rouge2": 0.32, "rougeL": 0.36, "bertscore": 0.1},
    ),
    PaperTable(
        "logiqa",
        "Logical multiple choice, T5-base: LogiQA 2.0",
        "t5-base",
        *LOGIQA,
        {"macro_f1": 0.84, "accuracy": 0.87},
    ),
    PaperTable(
        "decoder_only",
        "Decoder-only, Llama-3.2-1B: LogiQA 2.0",
        "llama-3.2-1b",
        *LOGIQA,
        {"macro_f1": 2.51, "accuracy": 1.85},
    ),
]


def paper_table_of(run: Run) -> PaperTable | None:
    """The table that a run may stand in: the paper's task, on a hub data set of its name, whole, with its model.

    Where the run's config.yaml is there, it decides: a toy, local or cut test set, other training data, or weights
    that only bear the model's label belong in the general comparison.
    """
    for table in PAPER_TABLES:
        if run.task in table.tasks and run.split == "test" and _same_model(run.model, table) and _same_data(run, table):
            return table
    return None


def _same_model(label: Any, table: PaperTable) -> bool:
    return _bare(PurePath(str(label)).name) == _bare(table.model)


def _same_data(run: Run, table: PaperTable) -> bool:
    if "/" not in run.data or table.tested_on not in _bare(run.data):  # a bare name is a local folder or the toy data
        return False
    if not run.config:
        return True
    if run.config.get("run") == "evaluate":  # nothing says how the model was trained, or whether it was
        return False
    data: Any = run.config.get("data")
    model: Any = run.config.get("model")
    try:
        return (
            data["kind"] == "hub"
            and data.get("max_test_examples") is None
            and "[" not in str(data["test"].get("split"))  # as test[:100]
            and table.trained_on in _bare(data["train"]["path"])
            and table.tested_on in _bare(data["test"]["path"])
            and _same_model(model["pretrained"], table)
        )
    except (KeyError, TypeError, AttributeError):  # a run of another version, whose configuration says too little
        return False


def _bare(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


@dataclass(frozen=True)
class PaperRows:
    """One of the paper's tables with our rows in it: for each metric a row per task, and after several their average.

    Attributes:
        settings: what was overridden, or differs between tables, by key; empty for the presets as they are.
        rows: by (score name, task); a row that nobody ran is missing.
        averages: by score name; only where every task has a row.
    """

    table: PaperTable
    settings: Mapping[str, str]
    rows: Mapping[tuple[str, str], Row]
    averages: Mapping[str, Row]


def paper_rows(rows: Sequence[Row]) -> list[PaperRows]:
    """The paper's tables that `rows` can fill, each once per setting and variant of warmup.

    Two experiments that could both be one row of such a table (from other training data, say) are in none of them.
    """
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        tables = [paper_table_of(run) for run in row.runs] if row.method == "warmup" else []  # it had no control
        if tables and tables[0] and all(table is tables[0] for table in tables) and row.metric in tables[0].gains:
            found[PAPER_TABLES.index(tables[0]), _shared_key(row, tables[0])].append(row)
    filled = []
    for (number, shared), candidates in sorted(found.items(), key=lambda item: item[0]):
        same = [row for row in candidates if not _has_rival(row, candidates)]
        alone = [row for row in same if row.warmup is None]  # of SFT alone: stands beside every variant
        for variant in sorted({_items(row.variant) for row in same if row.warmup}) or [()] * bool(alone):
            chosen = [*alone, *(row for row in same if row.warmup and _items(row.variant) == variant)]
            filled.append((PAPER_TABLES[number], dict([*shared, *variant]), chosen))
    return [_filled(table, settings, chosen, filled) for table, settings, chosen in filled]


def _shared_key(row: Row, table: PaperTable) -> tuple[tuple[str, str], ...]:
    """What the rows of one table have in common: all that SFT and warmup share, but what belongs to the task."""
    of_task = OF_TASK if len(table.tasks) > 1 else ()
    settings = row.runs[0].shared_settings
    return _items({key: value for key, value in settings.items() if key != "task" and not key.startswith(of_task)})


def _has_rival(row: Row, rows: Sequence[Row]) -> bool:
    """Whether another experiment could stand in the place of `row`."""
    same = [other for other in rows if (other.metric, other.task) == (row.metric, row.task)]
    return len({_items(other.runs[0].experiment) for other in same}) > 1


def _filled(table: PaperTable, settings: Mapping[str, str], rows: Sequence[Row], filled: Sequence[Any]) -> PaperRows:
    """A table whose title names what its runs' commands changed, and what tells it from others of its kind."""
    named = {key for row in rows for run in row.runs for key in run.overrides}
    kind = [others for other, others, _ in filled if other is table]
    shown = {key for key in settings if key in named or len({others.get(key) for others in kind}) > 1} - LABEL_KEYS
    cells = {(row.metric, row.task): row for row in rows}
    return PaperRows(table, {key: settings[key] for key in settings if key in shown}, cells, _averages(table, cells))


def _averages(table: PaperTable, cells: Mapping[tuple[str, str], Row]) -> dict[str, Row]:
    averages = {}
    for metric in table.gains:
        rows = [cells[metric, task] for task in table.tasks if (metric, task) in cells]
        if len(table.tasks) > 1 and len(rows) == len(table.tasks):
            averages[metric] = Row(
                "average",
                table.model,
                "",
                metric,
                _average([row.sft for row in rows]),
                _average([row.warmup for row in rows]),
                same_test=all(row.same_test for row in rows),
            )
    return averages


def _average(cells: Sequence[Cell | None]) -> Cell | None:
    """The average over all rows, seed by seed, of the seeds that every row has; None where a row has no score."""
    present = [cell for cell in cells if cell]
    if len(present) < len(cells):
        return None
    seeds = sorted(set.intersection(*(set(cell.values) for cell in present)))
    return Cell({seed: statistics.fmean(cell.values[seed] for cell in present) for seed in seeds}) if seeds else None


def _items(settings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(settings.items()))
