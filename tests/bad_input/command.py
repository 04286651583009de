"""The command line in this process, as a user gives it: what it printed, how it ended, what it left behind."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from warmup.display import visible
from warmup.training.interruption import SIGNALS

ROOT = Path(__file__).parents[2]
LONGEST = 1920  # characters of a terminal of 24 lines of 80


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    printed: str
    errors: str

    @property
    def error(self) -> str:
        """The one line of a command that was refused as it should be."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        assert self.status not in (0, None), f"it ended well: {self.printed[-2000:]}"
        assert len(lines) == 1 and lines[0].startswith("error: "), self.errors[-3000:] + self.printed[-1000:]
        assert "Traceback" not in self.printed
        assert len(lines[0]) <= LONGEST, len(lines[0])
        assert visible(lines[0]) == lines[0], lines[0]
        return lines[0]


def command(*words: str, **environment: str) -> Ended:
    """`python scripts/train.py WORDS` in the current folder, without a network."""
    out, err = io.StringIO(), io.StringIO()
    with _as_program(words, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ended(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _as_program(words: tuple[str, ...], environment: dict[str, str]) -> Iterator[None]:
    """What a process of its own would begin with, and no trace of it afterwards."""
    argv, variables, folder = sys.argv, dict(os.environ), os.getcwd()
    signals = {number: signal.getsignal(number) for number in SIGNALS}
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    sys.argv = ["scripts/train.py", *words]
    os.environ.update({"HF_HUB_OFFLINE": "1", **environment})
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        for opened in set(logging.getLogger().handlers) - set(handlers):
            opened.close()
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its content, every folder with None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
