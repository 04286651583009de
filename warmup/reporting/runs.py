"""Finding runs in a folder, and telling which of them are seeds of one and the same experiment.

A finished run left `metrics.json` in its folder, a failed one `error.txt`. Two runs are comparable when they agree
in everything but method, seed and what does not change a result (where it logs, which device it used).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup.errors import UserError
from warmup.evaluation.metrics import Score
from warmup.files import read_json

METHOD_NAMES = {"sft": "SFT", "warmup": "warmup"}
# Overrides that the record itself states, or that leave the scores as they are: the key, or the group before a dot.
NEUTRAL_KEYS = {"task", "data", "model", "seed", "run", "runs", "device", "checkpoint"}
NEUTRAL_GROUPS = {"method", "logger", "hydra"}


@dataclass(frozen=True)
class Run:
    """One `metrics.json`.

    Attributes:
        finished: when it was written, in seconds since the epoch.
        invalid_answers: share (0 to 1) of answers that are no label; None where no label was asked for.
        selection_metric: the dev score that picked the best checkpoint, where the record tells.
    """

    folder: Path
    finished: float
    task: str
    data: str
    model: str
    method: str
    seed: int
    overrides: dict[str, str]
    split: str
    examples: int
    scores: dict[str, Score]
    chance: dict[str, dict[str, float]]
    skipped: dict[str, str]
    invalid_answers: float | None
    selection_metric: str | None

    @property
    def experiment(self) -> dict[str, str]:
        """What SFT and warmup must share to be compared."""
        shared = {"task": self.task, "model": self.model, "data": self.data, "split": self.split}
        for key, value in self.overrides.items():
            if key not in NEUTRAL_KEYS and key.split(".")[0] not in NEUTRAL_GROUPS:
                shared[key] = value
        return shared

    @property
    def variant(self) -> dict[str, str]:
        """The warmup method's own overrides; SFT has none that matter."""
        if self.method == "sft":
            return {}
        return {key: value for key, value in self.overrides.items() if key.startswith("method.")}


def find_runs(folder: Path) -> list[Run]:
    """All finished runs in `folder` and below, by path.

    Raises:
        UserError: the folder is missing, or a `metrics.json` is broken (named).
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the one that holds your runs, e.g. runs=outputs")
    return [_read_run(path) for path in sorted(folder.rglob("metrics.json"))]


def failed_runs(folder: Path) -> list[tuple[Path, str]]:
    """The run folders in `folder` and below that failed, each with the line that says why."""
    failed = []
    for path in sorted(folder.rglob("error.txt")):
        if not (path.parent / "metrics.json").exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            failed.append((path.parent, " ".join(text.split()) or "it left no reason"))
    return failed


def newest_runs(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of runs of one experiment, method and seed only the newest, and a line for each that was repeated.

    A repeated run is no second seed: averaging it would shrink the spread.
    """
    repeats: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        repeats[_key(run.experiment), run.method, _key(run.variant), run.seed].append(run)
    notes = []
    for same in repeats.values():
        same.sort(key=lambda run: (run.finished, str(run.folder)))
        if len(same) > 1:
            run = same[-1]
            name = f"{run.task}, {run.model}, {METHOD_NAMES[run.method]}, seed {run.seed}"
            notes.append(f"Repeated: {name} was run {len(same)} times; only the newest counts, {run.folder}.")
    return [same[-1] for same in repeats.values()], notes


def group_by(runs: Sequence[Run], attribute: str) -> list[tuple[dict[str, str], list[Run]]]:
    """`runs` grouped by equal values of a property that is a dict ("experiment", "variant"), in natural order."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[_key(getattr(run, attribute))].append(run)
    ordered = sorted(groups.items(), key=lambda item: [(name, _natural(value)) for name, value in item[0]])
    return [(dict(key), sorted(same, key=lambda run: run.seed)) for key, same in ordered]


def varying_words(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """For each of `settings`, in words, what tells it from the others: "num_samples 4, learning_rate default".

    A key that the others set and this one does not is "default"; where two keys end alike, they are spelt out.
    """
    keys = sorted({key for setting in settings for key in setting})
    keys = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    endings = [key.split(".")[-1] for key in keys]
    names = {key: end if endings.count(end) == 1 else key for key, end in zip(keys, endings, strict=True)}
    return [", ".join(f"{names[key]} {setting.get(key, 'default')}" for key in keys) for setting in settings]


def _key(setting: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    # what everybody knows first: tables are sorted by this
    first = ["task", "model", "data", "split"]
    return tuple(sorted(setting.items(), key=lambda item: (first.index(item[0]) if item[0] in first else 4, item[0])))


def _natural(text: str) -> list[tuple[int, float, str]]:
    """A sorting key by which 4 comes before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts)]


def _read_run(path: Path) -> Run:
    record = read_json(path)
    try:
        if record["method"] not in METHOD_NAMES:
            raise ValueError(f"method is {record['method']!r}")
        return Run(
            folder=path.parent,
            finished=path.stat().st_mtime,
            task=str(record["task"]),
            data=str(record["data"]),
            model=str(record["model"]),
            method=str(record["method"]),
            seed=int(record["seed"]),
            overrides={str(key): str(value) for key, value in record["overrides"].items()},
            split=str(record["split"]),
            examples=int(record["examples"]),
            scores={k: Score(_finite(v["value"]), str(v["signature"])) for k, v in record["scores"].items()},
            chance={k: {way: _finite(x) for way, x in v.items()} for k, v in record["chance"].items()},
            skipped={str(key): str(value) for key, value in record["skipped"].items()},
            invalid_answers=None if record["invalid_answers"] is None else _finite(record["invalid_answers"]),
            selection_metric=record.get("selection_metric"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        cause = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} does not hold a run's metrics ({cause}); evaluate that run again or move it"
        ) from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number
