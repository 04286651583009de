"""Signals to the command: a training saves first; one line has the command to go on, and the status is the signal's."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_train_command import ROOT, TINY

LONG = [*TINY, "method=sft", "trainer.max_steps=100000", "trainer.evaluate_every=100000"]
LONG_EVALUATION = ["data.test_size=2000", "task.max_target_tokens=64", "evaluation.num_beams=8"]


def interrupted(words: list[str], folder: Path, at: str, number: signal.Signals) -> tuple[int, str]:
    """The status and the standard error of a command that got a signal when its output had `at`."""
    out, err = folder / "out.txt", folder / "err.txt"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "scripts/train.py", *words], cwd=ROOT, env=env, stdout=stdout, stderr=stderr
        )
        try:
            while at not in out.read_text() + err.read_text():
                assert process.poll() is None, err.read_text()
                time.sleep(0.05)
            process.send_signal(number)
            return process.wait(120), err.read_text()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "multirun", "status", "said"),
    [
        (signal.SIGTERM, False, 143, "ended by SIGTERM, saved at step "),
        (signal.SIGINT, True, 130, "interrupted, saved at step "),
    ],
)
def test_a_training_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, multirun: bool, status: int, said: str
) -> None:
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    words = [*(["-m"] if multirun else []), *LONG, f"{key}={tmp_path}/run it", f"seed={'1,2' if multirun else 1}"]
    ended, stderr = interrupted(words, tmp_path, "step 3/", number)
    assert ended == status and "Traceback" not in stderr
    line = stderr.splitlines()[-1]
    assert line.startswith(said)
    again = shlex.split(line.partition("to go on: ")[2])
    assert again[:2] == ["python", "scripts/train.py"] and len(again) == len(words) + 2
    assert again[2:-1] == [word for word in words if not word.startswith(key)]
    assert again[-1] == f"{key}={os.path.relpath(tmp_path, ROOT)}/run it"
    (checkpoint,) = tmp_path.glob("run it/**/checkpoint-*")
    assert said.startswith("ended") or "_seed1_" in checkpoint.parts[-3]
    if not multirun:  # "of another trainer" would be refused: the last step of the next command is that of this one
        second, stderr = interrupted(again[2:], tmp_path, "resuming from", signal.SIGTERM)
        assert second == 143, stderr


def test_what_cannot_be_saved_ends_at_once(tmp_path: Path) -> None:
    words = [*TINY, *LONG_EVALUATION, "method=sft", f"hydra.run.dir={tmp_path}/run"]
    status, stderr = interrupted(words, tmp_path, "decoding test", signal.SIGTERM)
    assert status == 143 and "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("ended by SIGTERM; to go on: python scripts/train.py data.train_size=48")
    assert (tmp_path / "run" / "model").is_dir() and not (tmp_path / "run" / "metrics.json").exists()


def test_a_second_ctrl_c_ends_at_once() -> None:
    """Also while the first one is waited for: the default action is put back."""
    program = (
        "import os, signal, time\n"
        "from warmup.training.interruption import INTERRUPTION\n"
        "INTERRUPTION.listen()\n"
        "with INTERRUPTION.saving():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('one', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('two', flush=True)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGINT and result.stdout == "one\n"
    assert "Ctrl-C again ends at once" in result.stderr and "Traceback" not in result.stderr
