"""What a training leaves in its run's folder, written and read: `history.json`, `training.json` and `model/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from warmup.errors import UserError
from warmup.files import read_json, write_json

HISTORY_FILE, TRAINING_FILE, MODEL_FOLDER = "history.json", "training.json", "model"
SKIPPED_STEPS_FILE = "skipped_steps.json"  # what led to the end of a run whose steps were no longer finite
PROFILE_FILE, TRACE_FILE = "profile.txt", "profile_trace.json"  # of trainer.profile_steps
CHECKPOINTS_FOLDER = "checkpoints"  # what a killed run resumes from
LIVE_FILE = ".progress.json"  # there while a training runs, for who watches


@dataclass(frozen=True)
class TrainingHistory:
    """The log of a training: an entry for each logged step and each evaluation, with its "step"."""

    entries: Sequence[dict[str, Any]]

    def write(self, folder: Path) -> None:
        """Each entry's keys sorted, as a checkpoint has them: a resumed run's file is no other."""
        write_json(folder / HISTORY_FILE, [dict(sorted(entry.items())) for entry in self.entries])

    @classmethod
    def read(cls, folder: Path) -> TrainingHistory:
        """The history in `folder`; empty where there is none.

        Raises:
            UserError: the file holds something else.
        """
        path = folder / HISTORY_FILE
        entries = read_json(path) if path.exists() else []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"{path} is no training history (a list of log entries)")
        return cls(entries)


@dataclass(frozen=True)
class Training:
    """How long a finished training was.

    Attributes:
        seconds: of optimisation, dev evaluations not counted, resumed parts added up.
        steps: of the optimiser.
        skipped_steps: those of them that were not taken, since their loss or gradient was not finite.
    """

    seconds: float
    steps: int
    skipped_steps: int = 0

    def write(self, folder: Path) -> None:
        """Write `training.json`."""
        write_json(folder / TRAINING_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Training:
        """What `write` wrote.

        Raises:
            UserError: the file is missing or holds something else.
        """
        path = folder / TRAINING_FILE
        record = read_json(path)
        try:
            skipped = int(record.get("skipped_steps", 0))  # another version wrote none
            return cls(float(record["seconds"]), int(record["steps"]), skipped)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} does not hold the seconds and steps of a training") from error


@dataclass(frozen=True)
class LiveProgress:
    """Where a training is.

    Attributes:
        step, max_steps: of the optimiser.
        begun: the step at which this process began.
        seconds: since then, dev evaluations counted.
    """

    step: int
    max_steps: int
    begun: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Steps a second; None before the first."""
        return (self.step - self.begun) / self.seconds if self.step > self.begun and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, at this rate."""
        return None if self.rate is None else (self.max_steps - self.step) / self.rate

    def write(self, folder: Path) -> None:
        """Write it where `folder` still is."""
        if folder.is_dir():
            write_json(folder / LIVE_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> LiveProgress | None:
        """What is in `folder`; None where no training writes one, or something else does."""
        try:
            record = read_json(folder / LIVE_FILE)
            return cls(int(record["step"]), int(record["max_steps"]), int(record["begun"]), float(record["seconds"]))
        except (UserError, KeyError, TypeError, ValueError):
            return None
