"""A short form of `scripts/kill_runs.py`: runs killed with -9 end as the one that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.test_train_command import ROOT


def test_killed_runs_end_as_one_that_was_not(tmp_path: Path) -> None:
    words = ["--kills", "3", "--methods", "warmup", "--seed", "7", "--folder", str(tmp_path / "kills")]
    result = subprocess.run(
        [sys.executable, "scripts/kill_runs.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("warmup: 3 kills (") and "ended as the run that was left alone" in result.stdout
    assert not (tmp_path / "kills").exists()
