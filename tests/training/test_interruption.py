"""What a stopped command says."""

from __future__ import annotations

import sys

import pytest

from warmup.display import LONGEST_LINE, error_text
from warmup.training.interruption import Interruption


@pytest.mark.parametrize("length", [10, LONGEST_LINE])
def test_the_command_to_go_on_is_whole_or_it_is_not_there(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was cut in its middle could be copied, and would do something else."""
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", f"model.name={'x' * length}"])
    line = Interruption(folder="hydra.run.dir=a run").line(KeyboardInterrupt())
    assert error_text(line) == line
    command = f"python scripts/train.py model.name={'x' * length} 'hydra.run.dir=a run'"
    assert line.partition("to go on: ")[2] == (
        command if length == 10 else "the same command with 'hydra.run.dir=a run'"
    )
