"""How the runs in some folders stand, told from their files alone: from any machine that sees the folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from warmup.errors import UserError
from warmup.runs.file_names import RunFile, folders_with, last_file
from warmup.runs.lock import LOCK_FILE, owner_of
from warmup.runs.records import Failure, RunConfiguration, plain_line
from warmup.runs.sweep_plan import PLAN_FILE, SweepPlan
from warmup.training.results import LiveProgress

MARKS_OF_A_RUN = (RunFile.CONFIG.value, RunFile.FAILURE.value, LOCK_FILE)


class Standing(StrEnum):
    """Of one run."""

    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class RunStatus:
    """One run; `progress` of one that trains at this moment, `detail` in words, of a failed one the reason."""

    folder: Path
    standing: Standing
    detail: str = ""
    progress: LiveProgress | None = None


def standing_of(folder: Path, done: bool) -> Standing:
    """How a run stands, by its files; `done`: whether its results are there."""
    if done:
        return Standing.DONE
    owner = owner_of(folder)
    if owner is not None and owner.alive:
        return Standing.RUNNING
    if (folder / RunFile.FAILURE).is_file():
        return Standing.FAILED
    return Standing.STOPPED if (folder / RunFile.CONFIG).is_file() else Standing.WAITING


def find_statuses(folders: Sequence[Path]) -> list[RunStatus]:
    """All runs in `folders` and below, and the jobs of their sweeps that have not begun; those under way come first."""
    found: dict[Path, RunStatus] = {}
    for folder in folders:
        for run in folders_with(folder, MARKS_OF_A_RUN):
            if (run / PLAN_FILE).exists():  # a sweep's own folder
                continue
            found.setdefault(run.resolve(), _status_of(run))
        for run in _planned(folder):
            found.setdefault(run.resolve(), RunStatus(run, Standing.WAITING))
    return sorted(found.values(), key=lambda status: [*Standing].index(status.standing))


def _planned(folder: Path) -> Iterator[Path]:
    for sweep in folders_with(folder, [PLAN_FILE]):
        try:
            yield from (sweep / job for job in SweepPlan.read(sweep).jobs)
        except UserError:  # a file of that name that is something else
            continue


def _status_of(folder: Path) -> RunStatus:
    try:
        stage = str(RunConfiguration.read(folder).values.get("run", "all"))
    except UserError as error:
        return RunStatus(folder, Standing.FAILED, str(error))
    standing = standing_of(folder, (folder / last_file(stage)).exists())
    if standing == Standing.RUNNING:
        progress = LiveProgress.read(folder)
        trained = (folder / RunFile.TRAINING).exists()
        doing = "training" if progress else "answering" if trained else "starting"
        return RunStatus(folder, standing, f"{doing}, {plain_line(owner_of(folder))}", progress)
    if standing == Standing.FAILED:
        return RunStatus(folder, standing, Failure.read(folder).line)
    return RunStatus(folder, standing, "" if standing == Standing.DONE else "the command that began it goes on with it")
