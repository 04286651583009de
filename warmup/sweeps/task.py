"""What a launcher calls for each job of a sweep, in this process or another one, and what it hands back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from warmup.command_line import carry_out, error_line
from warmup.display import say_error
from warmup.runs.file_names import RunFile
from warmup.runs.lock import FolderTaken
from warmup.runs.records import Failure
from warmup.training.interruption import Interrupted

PARENT_CHECK = 1.0  # seconds
PREEMPTION = "SUBMITIT_PREEMPT_SIGNAL"  # the variable that says which signal submitit asks its cluster for


class Result(StrEnum):
    """How a job ended for the process that tried it."""

    DONE = "done"
    FAILED = "failed"
    TAKEN = "taken"  # another process is at it


@dataclass(frozen=True)
class Outcome:
    """A job's result and, of a failed one, why in one line."""

    result: Result
    reason: str = ""


@dataclass(frozen=True)
class SweepTask:
    """The task function of a sweep.

    Attributes:
        since: when the sweep began, by the clock of its file system.
        starter: the process that launches the jobs.
    """

    since: float
    starter: int

    def __call__(self, composed: DictConfig) -> Outcome:
        """Do the job, unless somebody else does or has failed at it since this sweep began."""
        end_with_parent(self.starter)
        requeue = _submitits_handler()
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            carry_out(composed, lambda: failure_since(folder, self.since) is None)
        except FolderTaken:
            return Outcome(Result.TAKEN)
        except Interrupted as stop:  # behind a saved step
            if requeue is None:
                raise
            requeue(stop.status - 128, None)  # which ends this process with a status of its own
        except Exception as error:
            line = error_line(error)
            say_error(f"error: {folder.name}: {line}")
            return Outcome(Result.FAILED, line)
        failure = failure_since(folder, self.since)
        return Outcome(Result.FAILED, failure.line) if failure else Outcome(Result.DONE)


def _submitits_handler() -> Callable[[int, Any], Any] | None:
    """What submitit does when its cluster takes a job back: hand it in again. None where submitit did not start it."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    found = signal.getsignal(getattr(signal, f"SIG{os.environ.get(PREEMPTION, 'USR2')}"))
    return found if callable(found) else None


def failure_since(folder: Path, since: float) -> Failure | None:
    """Why the job in `folder` failed at or after the time `since`, whoever tried it."""
    try:
        failed = (folder / RunFile.FAILURE).stat().st_mtime
    except OSError:
        return None
    return Failure.read(folder) if failed > since else None


def end_with_parent(starter: int) -> None:
    """In a child of the process `starter`, end as soon as that is gone: nobody would wait for what is computed here."""
    if os.getppid() == starter and not any(thread.name == "parent" for thread in threading.enumerate()):
        threading.Thread(target=_watch_parent, args=(starter,), name="parent", daemon=True).start()


def _watch_parent(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(PARENT_CHECK)
    os._exit(1)
