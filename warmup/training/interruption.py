"""Signals that ask this process to end: a training saves first, and what goes on later is said in one line."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from warmup.display import LONGEST_LINE
from warmup.training.processes import is_launched

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C; kill and schedulers; what schedulers send before


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end; what can be saved is saved. Libraries treat it as they treat Ctrl-C.

    Attributes:
        status: the exit status that a shell has for this signal, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name, self.status = signal.Signals(number).name, 128 + number


@dataclass
class Interruption:
    """What was asked of this process, and how its work goes on.

    Attributes:
        asked: the first signal that came.
        saves: whether the work that is under way sees to `asked` itself.
        saved: the step of the checkpoint that was written since.
        folder: the override that names the folder of the work, `hydra.run.dir=FOLDER`.
    """

    asked: int | None = None
    saves: bool = False
    saved: int | None = None
    folder: str | None = None

    def listen(self) -> None:
        """Hear the signals from now on, if this is the main thread, which alone can."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        launched = is_launched()  # the terminal and the launcher may both send it: twice is once
        if number == signal.SIGINT or not self.saves:
            signal.signal(number, signal.SIG_IGN if launched else signal.SIG_DFL)  # the second one ends at once
        self.asked = self.asked or number
        if not self.saves:
            raise Interrupted(number)
        if number == signal.SIGINT and not launched:
            os.write(2, b"\nsaving after this step; Ctrl-C again ends at once\n")  # no stream: one may be in use

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While work is under way that looks at `asked` and saves itself.

        Raises:
            Interrupted: behind it, when a signal came that the work did not see any more.
        """
        self.saves = True
        try:
            yield
        finally:
            self.saves = False
        if self.asked:
            raise Interrupted(self.asked)

    def line(self, stop: KeyboardInterrupt) -> str:
        """What stopped the command, and the command that goes on."""
        name = stop.name if isinstance(stop, Interrupted) else signal.SIGINT.name
        said = "interrupted" if name == signal.SIGINT.name else f"ended by {name}"
        said += "" if self.saved is None else f", saved at step {self.saved}"
        if self.folder is None:
            return said
        whole = f"{said}; to go on: {_command_with(self.folder, sys.argv)}"
        if is_launched() or len(whole) > LONGEST_LINE:  # half a command is none
            return f"{said}; to go on: the same command with {shlex.quote(self.folder)}"
        return whole


def _command_with(folder: str, words: Sequence[str]) -> str:
    key = folder.partition("=")[0]
    kept = [word for word in words if not word.startswith(f"{key}=")]
    return shlex.join([*(["python"] if kept[0].endswith(".py") else []), *kept, folder])


INTERRUPTION = Interruption()
