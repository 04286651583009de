"""A process that was killed takes no other job with it: its launcher is started again for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import RunMode

from tests.sweeps.planning import planned
from warmup.runs.file_names import RunFile
from warmup.runs.lock import LOCK_FILE
from warmup.runs.records import RunConfiguration
from warmup.sweeps.grid import JobRunner
from warmup.sweeps.jobs import SweptJob
from warmup.sweeps.task import Outcome, Result

pytestmark = pytest.mark.usefixtures("hydra")

DEAD = "filelock/2\npid=4194000\nhost=elsewhere\nmode=lease\ntoken=a\nduration=60.0\n"


class Launcher:
    """Breaks as joblib does when the process of a `killed` seed ends, having begun with up to two jobs."""

    def __init__(self, jobs: Sequence[SweptJob], killed: Sequence[int]) -> None:
        self.jobs, self.killed, self.launched = {str(job.launched): job for job in jobs}, killed, list[list[int]]()

    def launch(self, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        jobs = [self.jobs[str(words)] for words in overrides]
        self.launched.append([job.config.seed for job in jobs])
        for number, job in enumerate(jobs):
            if job.config.seed in self.killed:
                for begun in jobs[number : number + 2]:
                    begun.folder.mkdir(parents=True, exist_ok=True)
                    (begun.folder / LOCK_FILE).write_text(DEAD)
                raise RuntimeError("a worker process was killed")
            job.folder.mkdir(parents=True, exist_ok=True)
            RunConfiguration.of(job.composed).write(job.folder)
            (job.folder / RunFile.METRICS).write_text("{}")
        return [SimpleNamespace(return_value=Outcome(Result.DONE)) for _ in jobs]


def runner_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: Sequence[int]) -> tuple[Any, Launcher, Any]:
    jobs = planned("seed=1,2,3,4", f"hydra.sweep.dir={tmp_path}")
    launcher = Launcher(jobs, killed)
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_: launcher)
    loader = GlobalHydra.instance().config_loader()
    words = [f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN"]
    config = loader.load_configuration("config", words, RunMode.MULTIRUN)
    return JobRunner(None, config), launcher, jobs  # type: ignore[arg-type]


def test_one_that_is_killed_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, launcher, jobs = runner_of(tmp_path, monkeypatch, [2])
    runner.run(jobs)
    assert launcher.launched == [[1, 2, 3, 4], [2], [3], [4]]
    ((failed, reason),) = runner.failed.items()
    assert failed.config.seed == 2 and "its process ended: RuntimeError: a worker process was killed" in reason
    assert (failed.folder / RunFile.FAILURE).read_text().startswith("its process ended")
    assert [job.is_done for job in jobs] == [True, False, True, True]


def test_a_launcher_that_starts_nothing_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, launcher, jobs = runner_of(tmp_path, monkeypatch, [])
    monkeypatch.setattr(launcher, "launch", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no srun here")))
    with pytest.raises(RuntimeError, match="no srun here"):
        runner.run(jobs)
