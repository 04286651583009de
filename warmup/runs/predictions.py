"""What a run answered, example by example: `predictions.jsonl`, and whether runs answered one test set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmup.data.examples import Example, options_of_all
from warmup.data.local import read_table
from warmup.data.texts import text_of
from warmup.errors import UserError
from warmup.files import write_json_lines
from warmup.metrics.prediction_files import options_of
from warmup.runs.file_names import RunFile
from warmup.runs.finding import Run

if TYPE_CHECKING:  # comparing runs needs no torch
    from warmup.answering.answerer import Answer


@dataclass(frozen=True)
class Predictions:
    """The lines of one `predictions.jsonl`, in the input's order; one text each per example."""

    sources: Sequence[str]
    predictions: Sequence[str]
    references: Sequence[str]  # empty where nobody gave any
    warmups: Sequence[str | None]  # None for an answer that was written without one
    options: Sequence[Sequence[str]] | None = None  # what each example lets choose from; None without options

    @classmethod
    def of(cls, answers: Sequence[Answer], examples: Sequence[Example]) -> Predictions:
        """The answers to `examples`, of which all or none have a target."""
        return cls(
            [example.source for example in examples],
            [answer.prediction for answer in answers],
            [example.target for example in examples if example.target is not None],
            [answer.warmup for answer in answers],
            options_of_all(examples),
        )

    @cached_property
    def test_set(self) -> str:
        """A digest that two runs share when they answered the same questions."""
        return hashlib.sha256(json.dumps([self.sources, self.references]).encode()).hexdigest()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each example as a line of the file has it."""
        columns: dict[str, Sequence[Any]] = {
            "source": self.sources,
            "warmup": self.warmups,
            "prediction": self.predictions,
        }
        if self.references:
            columns["reference"] = self.references
        if self.options is not None:
            columns["options"] = [list(own) for own in self.options]
        for texts in zip(*columns.values(), strict=True):
            yield dict(zip(columns, texts, strict=True))

    def write(self, folder: Path) -> None:
        """Write `predictions.jsonl`."""
        write_json_lines(folder / RunFile.PREDICTIONS, self.lines())

    @classmethod
    def read(cls, folder: Path) -> Predictions:
        """What a run on a split with references wrote.

        Raises:
            UserError: the file is missing, cut off, or does not hold answers with references.
        """
        path = folder / RunFile.PREDICTIONS
        try:
            records = [record for record, _ in read_table(str(path))]
            warmups = [
                None if record.get("warmup") is None else text_of(record["warmup"], "a warmup") for record in records
            ]
            columns = {
                key: [text_of(record[key], f"a {key}") for record in records]
                for key in ("source", "prediction", "reference")
            }
            offered = "options" in next(iter(records), {})
            options = [options_of(record, "a line") for record in records] if offered else None
        except (UserError, KeyError) as error:
            cause = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path} does not hold a run's answers ({cause})") from error
        return cls(columns["source"], columns["prediction"], columns["reference"], warmups, options)


def read_predictions(run: Run) -> Predictions:
    """The answers of a run.

    Raises:
        UserError: the file is missing, cut off, or does not hold as many examples as were scored.
    """
    path = run.folder / RunFile.PREDICTIONS
    try:
        found = _unchanged(run.folder, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(found.sources) != run.examples:
        raise UserError(f"{path} holds {len(found.sources)} answers, and {run.examples} were scored")
    return found


@lru_cache(maxsize=256)  # all runs of a comparison, as a rule: its page holds their answers too
def _unchanged(folder: Path, changed: int) -> Predictions:
    return Predictions.read(folder)


def distinct_test_sets(runs: Sequence[Run]) -> set[tuple[int, str]]:
    """The test sets that `runs` were scored on: the number of examples and, where the answers are there, a digest."""
    known = set()
    for run in runs:
        with suppress(UserError):
            known.add((run.examples, read_predictions(run).test_set))
    return known | {(run.examples, "") for run in runs if run.examples not in {size for size, _ in known}}
