"""What runs logged over training, as numbers to draw: `history.json`, and its curves averaged over seeds.

A history is the Hugging Face Trainer's log: a list of entries, each with its "step".
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup.errors import UserError
from warmup.runs.finding import Run
from warmup.training.results import TrainingHistory

TARGET_NLL = "target_nll"
LOST = "nll_lost"
MOST_POINTS = 100  # of a curve: longer ones are averaged over equal spans of steps
History = list[dict[str, Any]]
Curve = Mapping[float, float]  # step -> value, in order of steps


def read_histories(runs: Sequence[Run]) -> tuple[dict[Path, History], list[str]]:
    """The history of each run folder, empty where there is none, and a line for each that is broken.

    Dev scores of a warmup run's SFT phase are left out: there it is made to write warmups that it has not learnt, and
    would fall to 0.
    """
    histories: dict[Path, History] = {}
    notes = []
    for run in runs:
        try:
            entries = TrainingHistory.read(run.folder).entries
            histories[run.folder] = _without_sft_scores([_with_differences(entry) for entry in entries])
        except UserError as error:
            histories[run.folder] = []
            notes.append(f"Not drawn: {error}.")
    return histories, notes


def sft_phase(history: History) -> float:
    """The last logged step of the plain SFT that a warmup run began with; 0 without one."""
    steps = [entry["step"] for entry in history if _is_point(entry, "step") and TARGET_NLL in entry]
    writing = [entry["step"] for entry in history if _is_point(entry, "step") and any(map(_of_warmups, entry))]
    return max((step for step in steps if writing and step < min(writing)), default=0)


def _of_warmups(key: str) -> bool:
    return key.startswith("warmup/")


def _without_sft_scores(history: History) -> History:
    end = sft_phase(history)
    return [entry for entry in history if not (end and _is_dev_score(entry) and entry["step"] <= end)]


def _is_dev_score(entry: Mapping[str, Any]) -> bool:
    return _is_point(entry, "step") and any(key.startswith("eval_") for key in entry)


def _with_differences(entry: dict[str, Any]) -> dict[str, Any]:
    """Also by how much a target is less likely after another input's warmup, and after none, than after its own."""
    found = {key.rpartition("/")[2]: entry[key] for key in entry if _is_point(entry, key)}
    own = found.get(f"{TARGET_NLL}_own")
    kinds = [kind for kind in ("shuffled", "empty") if own is not None and f"{TARGET_NLL}_{kind}" in found]
    return entry | {f"warmup/{LOST}_{kind}": found[f"{TARGET_NLL}_{kind}"] - own for kind in kinds}


def logged_keys(runs: Sequence[Run], histories: Mapping[Path, History]) -> set[str]:
    """The keys with a number to draw."""
    return {key for run in runs for entry in histories[run.folder] for key in entry if _is_point(entry, key)}


@dataclass(frozen=True)
class SeedCurves:
    """One logged quantity of several seeds.

    Attributes:
        mean: over the steps that all seeds have; empty where they share none.
        deviation: the sample standard deviation there; empty for a single seed.
        single: each seed's own curve.
    """

    mean: Curve
    deviation: Curve
    single: Sequence[Curve]


def seed_curves(runs: Sequence[Run], key: str, histories: Mapping[Path, History]) -> SeedCurves:
    """The curves of `key` that `runs`, seeds of one experiment, have logged."""
    curves = [curve for run in runs if (curve := _curve(histories[run.folder], key))]
    if curves and max(map(len, curves)) > MOST_POINTS:
        span = max(max(curve) for curve in curves) / MOST_POINTS
        curves = [_averaged(curve, span) for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    mean = {step: statistics.fmean(curve[step] for curve in curves) for step in steps}
    several = steps if len(curves) > 1 else []
    return SeedCurves(mean, {step: statistics.stdev(curve[step] for curve in curves) for step in several}, curves)


def _is_point(entry: Mapping[str, Any], key: str) -> bool:
    """Whether a log entry has a number for `key` at a step that is one."""
    return _is_number(entry.get("step")) and _is_number(entry.get(key))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # a bool is none; quick: asked of every value


def _curve(history: History, key: str) -> Curve:
    """A resumed run's later entry for a step counts."""
    found = {float(entry["step"]): float(entry[key]) for entry in history if _is_point(entry, key)}
    return {step: found[step] for step in sorted(found)}


def _averaged(curve: Curve, span: float) -> Curve:
    """Means over spans of that many steps, each at its last step, so that seeds of unequal length still match."""
    spans: dict[int, list[float]] = defaultdict(list)
    for step, value in curve.items():
        spans[math.ceil(step / span)].append(value)
    return {number * span: statistics.fmean(values) for number, values in spans.items()}
