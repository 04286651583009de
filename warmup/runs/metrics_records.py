"""What a run says of its answers, as typed records: `metrics.json`, `segment_scores.json`, `warmup_analysis.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.metrics.evaluation import Evaluation, Score
from warmup.runs.file_names import RunFile
from warmup.runs.records import broken, plain_line, read_json_object

METHOD_NAMES = {"sft": "SFT", "warmup": "warmup", "pause": "pause tokens"}  # SFT is what the others are compared with


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """`metrics.json` of a model's answers; the fields stand in the file in this order.

    Attributes:
        overrides: of the command, those that tell the run from others and have no column in tables.
        selection_metric: the dev score that picked the best checkpoint, where the record tells.
        scores, chance, skipped, notes, invalid_answers: as in `Evaluation`.
        unwritable: characters of the data that the tokenizer cannot write, by split.
        training_seconds, training_steps: None where this run did not train.
        skipped_steps: those whose loss or gradient was not finite; None as above, or in a file of an older version.
    """

    task: str
    data: str
    model: str
    method: str
    seed: int
    overrides: dict[str, str] = field(default_factory=dict)
    selection_metric: str | None = None
    split: str = "test"
    examples: int
    scores: dict[str, Score]
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    invalid_answers: float | None = None
    unwritable: dict[str, Any] = field(default_factory=dict)
    training_seconds: float | None = None
    training_steps: int | None = None
    skipped_steps: int | None = None
    decoding_seconds: float | None = None

    def write(self, folder: Path) -> None:
        """Write `metrics.json`."""
        write_json(folder / RunFile.METRICS, _as_json(self))

    @classmethod
    def read(cls, folder: Path) -> RunMetrics:
        """What `write` wrote, on single lines and without control characters.

        Raises:
            UserError: the file is missing, broken, or of something else than a run of a known method.
        """
        path = folder / RunFile.METRICS
        record = read_json(path)
        try:
            return RunMetrics(**_checked(record))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{path} does not hold a run's metrics ({cause}); evaluate that run again or move it"
            ) from error


@dataclass(frozen=True, kw_only=True)
class FileMetrics:
    """`metrics.json` of run=score: the answers may come from anything, so that no table shows them."""

    run: str = "score"
    task: str
    predictions: str
    references: str | None
    sources: str | None
    examples: int
    scores: dict[str, Score]
    chance: dict[str, dict[str, float]]
    skipped: dict[str, str]
    notes: list[str]
    invalid_answers: float | None

    def write(self, folder: Path) -> None:
        """Write `metrics.json`."""
        write_json(folder / RunFile.METRICS, _as_json(self))


def scored(evaluation: Evaluation) -> dict[str, Any]:
    """The fields of both records that an evaluation fills."""
    return {name: getattr(evaluation, name) for name in ("scores", "chance", "skipped", "notes", "invalid_answers")}


def _as_json(record: RunMetrics | FileMetrics) -> dict[str, Any]:
    found = {known.name: getattr(record, known.name) for known in fields(record)}
    scores = {name: {"value": score.value, "signature": score.signature} for name, score in record.scores.items()}
    return {**found, "scores": scores}


def _checked(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `RunMetrics`; what is not there or of another type raises what Python raises."""
    if record["method"] not in METHOD_NAMES:
        raise ValueError(f"method is {record['method']!r}")
    steps = record.get("training_steps")
    return {
        **{name: plain_line(record[name]) for name in ("task", "data", "model", "method", "split")},
        **{name: int(record[name]) for name in ("seed", "examples")},
        **{name: _finite_or_none(record.get(name)) for name in ("training_seconds", "decoding_seconds")},
        "overrides": {plain_line(key): plain_line(value) for key, value in record["overrides"].items()},
        "selection_metric": plain_line(record.get("selection_metric") or "") or None,
        "scores": {
            name: Score(_finite_number(score["value"]), plain_line(score["signature"]))
            for name, score in record["scores"].items()
        },
        "chance": {
            name: {way: _finite_number(x) for way, x in ways.items()} for name, ways in record["chance"].items()
        },
        "skipped": {str(name): plain_line(reason) for name, reason in record["skipped"].items()},
        "notes": [plain_line(note) for note in record.get("notes", [])],
        "invalid_answers": _finite_or_none(record["invalid_answers"]),
        "unwritable": dict(record.get("unwritable") or {}),
        "training_steps": None if steps is None else int(steps),
        "skipped_steps": None if record.get("skipped_steps") is None else int(record["skipped_steps"]),
    }


def _finite_number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number


def _finite_or_none(value: Any) -> float | None:
    return None if value is None else _finite_number(value)


@dataclass(frozen=True)
class SegmentScores:
    """`segment_scores.json`: each example's score in percent, in the order of `predictions.jsonl`, by score."""

    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write them; nothing where no score is a mean over examples."""
        if self.scores:
            write_json(folder / RunFile.SEGMENT_SCORES, self.scores)

    @classmethod
    def read(cls, folder: Path) -> SegmentScores:
        """What is in `folder`; empty for a run that wrote none.

        Raises:
            UserError: the file holds something else.
        """
        path = folder / RunFile.SEGMENT_SCORES
        scores = read_json_object(path)
        for name, values in scores.items():
            if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
                raise broken(path, f"{name} is no list of numbers")
        return cls(scores)


@dataclass(frozen=True)
class WarmupAnalysis:
    """`warmup_analysis.json`: the test set answered again given other warmups.

    Attributes:
        examples: how many were answered.
        same_warmup: the share of inputs whose shuffled warmup equals their own.
        warmups: for `own` and each kind that stood in for it (older runs have fewer) the `scores` in percent, the
            references' `target_nll` in nats per token, the share of answers `changed`, and but for `own` the two-sided
            `p_values` of a score's difference from it.
    """

    examples: int
    same_warmup: float
    warmups: Mapping[str, Mapping[str, Any]]

    def write(self, folder: Path) -> None:
        """Write all of it."""
        write_json(folder / RunFile.WARMUP_ANALYSIS, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> WarmupAnalysis | None:
        """What is in `folder`; None for a run that was evaluated without it.

        Raises:
            UserError: the file holds something else.
        """
        path = folder / RunFile.WARMUP_ANALYSIS
        if not path.exists():
            return None
        record = read_json_object(path)
        try:
            for answered in record["warmups"].values():
                numbers = [answered["changed"], answered.get("target_nll", 0.0), *answered["scores"].values()]
                numbers += answered.get("p_values", {}).values()
                [_finite_number(number) for number in numbers]
            return cls(int(record["examples"]), _finite_number(record["same_warmup"]), record["warmups"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise broken(path, f"no {error}" if isinstance(error, KeyError) else error) from error
