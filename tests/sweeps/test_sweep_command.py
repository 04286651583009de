"""Sweeps as a user gives them: again, longer, in two terminals, with failed jobs, and killed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.test_train_command import ROOT, TINY, command
from warmup.runs.lock import owner_of, writing

SFT = [*TINY, "method=sft"]
SLOW = [word for word in SFT if not word.startswith("trainer.")] + [
    "trainer.max_steps=100000",
    "trainer.evaluate_every=50000",
]


def started(*words: str) -> subprocess.Popen[str]:
    """The program with these words, in the background."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "scripts/train.py", *words]
    return subprocess.Popen(program, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)


def test_a_longer_sweep_in_another_order_runs_what_is_new(tmp_path: Path) -> None:
    """With relative paths, options behind overrides and each job in its own working directory, too."""
    sweep = f"hydra.sweep.dir={os.path.relpath(tmp_path / 's', ROOT)}"
    first = command("-m", *SFT, "seed=1", "run=train", sweep)
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "s").glob("*_seed1_*")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    choices = tmp_path / "choices" / "task"
    choices.mkdir(parents=True)
    words = ["seed=2,1", "run=train", "hydra.job.chdir=true", "--config-dir", str(choices.parent), sweep, "-m"]
    again = command(*SFT, *words)
    assert again.returncode == 0, again.stderr
    assert "2 jobs: 1 done, 1 new" in again.stdout and f"done: {run.name}" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(list((tmp_path / "s").glob("*/model"))) == 2


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    """A file whose 21st line has no target, and a good one."""
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    good.write_text("".join(f'{{"source": "word {i}", "target": "wort {i}"}}\n' for i in range(40)))
    bad.write_text(good.read_text() + '{"source": "a", "target": ""}\n')
    return bad, good


def test_what_failed_is_said_with_the_command_that_runs_just_that(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    bad, good = two_files
    tiny = [part for part in SFT if not part.startswith("data.")]
    data = ["task.target_language=de", "data=local", f"data.train={bad},{good}"]
    result = command("-m", *data, *tiny, f"hydra.sweep.dir={tmp_path}/s")
    assert result.returncode == 1
    (failed,) = (path.parent for path in (tmp_path / "s").glob("*/error.txt"))
    reason = failed.joinpath("error.txt").read_text()
    assert "line 41: the target is empty" in reason and reason.count("\n") == 1
    assert "1 of 2 jobs failed:" in result.stderr and "Traceback" not in result.stderr
    assert f"  {failed.name}: {reason}" in result.stderr
    assert "Failed" in (tmp_path / "s" / "comparison.md").read_text()
    bad.write_text(good.read_text())
    words = shlex.split(result.stderr.splitlines()[-1])[2:]
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert "1 job: 1 failed before, runs again" in again.stdout
    assert len(list((tmp_path / "s").glob("*/metrics.json"))) == 2 and not failed.joinpath("error.txt").exists()


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_two_terminals_share_the_jobs_of_one_sweep(launcher: str, two_files: tuple[Path, Path], tmp_path: Path) -> None:
    bad, good = two_files
    tiny = [part for part in SFT if not part.startswith("data.")]
    data = ["task.target_language=de", "data=local", f"data.train={good},{bad}"]
    words = ["-m", *data, *tiny, "seed=1,2", f"hydra.sweep.dir={tmp_path}/s", f"hydra/launcher={launcher}"]
    words += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    terminals = [started(*words) for _ in range(2)]
    said = [terminal.communicate(timeout=300) for terminal in terminals]
    assert [terminal.returncode for terminal in terminals] == [1, 1], said
    assert len(list((tmp_path / "s").glob("*/metrics.json"))) == 2
    logs = [path.read_text() for path in (tmp_path / "s").glob("*/train.log")]
    assert len(logs) == 4 and all(log.count("training examples") <= 1 for log in logs)
    assert [log.count("trained 4 steps") for log in logs].count(1) == 2
    assert all(len(re.findall(r"of 4 jobs failed", err)) == 1 for _, err in said)


def test_the_children_of_a_killed_parent_end_and_leave_their_jobs_to_the_next(tmp_path: Path) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={tmp_path}/s"]
    parent = started("-m", *SLOW, "seed=1,2", *joblib)
    try:
        wait_for(lambda: len(list((tmp_path / "s").glob("*/.progress.json"))) == 2)
        children = psutil.Process(parent.pid).children(recursive=True)
        shown = command("run=status", f"runs={tmp_path}/s", f"hydra.run.dir={tmp_path}/status")
        assert shown.returncode == 0 and "2 running" in shown.stdout and "/100000" in shown.stdout
        assert not (tmp_path / "status").exists()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert not psutil.wait_procs(children, timeout=20)[1]
    record = json.loads((tmp_path / "s" / "jobs.json").read_text())
    assert len(record) == 2
    shown = command("run=status", f"runs={tmp_path}/s", f"hydra.run.dir={tmp_path}/status")
    assert "2 running" in shown.stdout or "2 stopped" in shown.stdout


def test_a_log_that_another_process_has_just_begun_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "train.log").touch()
    with writing(run):
        second = command(*SFT, f"hydra.run.dir={run}")
        assert second.returncode == 2 and f"is written by process {os.getpid()} on " in second.stderr
        assert (run / "train.log").is_file()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_its_cluster_takes_back_saves_and_is_handed_in_again(number: int, tmp_path: Path) -> None:
    steps = ["trainer.max_steps=60", "trainer.evaluate_every=60"]
    words = [*[word for word in SFT if not word.startswith("trainer.")], *steps, f"hydra.sweep.dir={tmp_path}/s"]
    terminal = started("-m", *words, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10")
    wait_for(lambda: list((tmp_path / "s").glob("*/.progress.json")))
    (run,) = (path.parent for path in (tmp_path / "s").glob("*/.progress.json"))
    owner = owner_of(run)
    assert owner is not None
    os.kill(owner.process, number)
    out, err = terminal.communicate(timeout=300)
    assert terminal.returncode == 0, out + err
    log = (run / "train.log").read_text()
    assert log.count("resuming from") == 1 and log.count("trained 60 steps") == 1
    assert (run / "metrics.json").is_file() and not (run / "error.txt").exists()
    said = "".join(path.read_text() for path in (tmp_path / "s" / ".submitit").rglob("*_log.*"))
    assert "Requeued job" in said and "Traceback" not in said
