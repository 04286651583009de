"""What the runs answered, example by example: `predictions.jsonl` read back, and whether runs answered one test set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from warmup.data.local import read_table
from warmup.data.texts import text_of
from warmup.errors import UserError
from warmup.metrics.prediction_files import options_of
from warmup.runs.finding import Run


@dataclass(frozen=True)
class Predictions:
    """The lines of one `predictions.jsonl`, in the test set's order; one text each per example."""

    sources: Sequence[str]
    predictions: Sequence[str]
    references: Sequence[str]
    warmups: Sequence[str | None]  # None for an answer that was written without one
    options: Sequence[Sequence[str]] | None = None  # what each example lets choose from; None without options

    @property
    def test_set(self) -> str:
        """A digest that two runs share when they answered the same questions."""
        return hashlib.sha256(json.dumps([self.sources, self.references]).encode()).hexdigest()


def read_predictions(run: Run) -> Predictions:
    """The answers of a run.

    Raises:
        UserError: the file is missing, cut off, or does not hold as many examples as were scored.
    """
    path = run.folder / "predictions.jsonl"
    try:
        return _read(path, path.stat().st_mtime_ns, run.examples)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=1)  # tests and test sets ask for the same run in turn
def _read(path: Path, changed: int, examples: int) -> Predictions:
    try:
        records = [record for record, _ in read_table(str(path))]
        warmups = [
            None if record.get("warmup") is None else text_of(record["warmup"], "a warmup") for record in records
        ]
        columns = [
            [text_of(record[key], f"a {key}") for record in records] for key in ("source", "prediction", "reference")
        ]
        options = [options_of(record, "a line") for record in records] if "options" in next(iter(records), {}) else None
    except (UserError, KeyError) as error:
        cause = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} does not hold a run's answers ({cause})") from error
    if len(records) != examples:
        raise UserError(f"{path} holds {len(records)} answers, and {examples} were scored")
    return Predictions(columns[0], columns[1], columns[2], warmups, options)


def distinct_test_sets(runs: Sequence[Run]) -> set[tuple[int, str]]:
    """The test sets that `runs` were scored on: the number of examples and, where the answers are there, a digest."""
    known = set()
    for run in runs:
        with suppress(UserError):
            known.add((run.examples, read_predictions(run).test_set))
    return known | {(run.examples, "") for run in runs if run.examples not in {size for size, _ in known}}
