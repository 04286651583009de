"""The sweeper of `-m`: Hydra's grid, whose jobs are skipped when done, shared with other terminals, and all run.

It stands in the place of Hydra's basic sweeper (conf/hydra/sweeper/basic.yaml), with any launcher.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from warmup.display import say
from warmup.errors import UserError, one_line
from warmup.files import write_text
from warmup.runs.lock import Watch, owner_of
from warmup.runs.records import Failure
from warmup.runs.status import Standing
from warmup.runs.sweep_plan import SweepPlan
from warmup.sweeps.jobs import SweptJob, plan_jobs, typed_overrides
from warmup.sweeps.summary import arguments_for, count_jobs, end_sweep, print_plan
from warmup.sweeps.task import Outcome, Result, SweepTask, failure_since
from warmup.training.interruption import INTERRUPTION

LOOK = 1.0  # seconds between two looks at the jobs of other processes


class JobRunner:
    """Runs jobs of one sweep by its launcher; `failed` says why, by job."""

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        folder = Path(config.hydra.sweep.dir)
        begun = folder / "multirun.yaml"
        write_text(begun, OmegaConf.to_yaml(config))
        self.since = begun.stat().st_mtime
        self.launcher = Plugins.instance().instantiate_launcher(context, SweepTask(self.since, os.getpid()), config)
        self.failed: dict[SweptJob, str] = {}

    def run(self, jobs: Sequence[SweptJob]) -> None:
        """Until each of `jobs` is done or has failed, here or in another process that came first."""
        free, taken = list(jobs), dict[SweptJob, Watch]()
        while free or taken:
            for job, outcome in zip(free, self._launch(free), strict=True):
                if outcome.result == Result.TAKEN:
                    taken[job] = Watch(job.folder)
                elif outcome.result == Result.FAILED:
                    self.failed[job] = outcome.reason
            free = self._wait(taken) if taken else []

    def _launch(self, jobs: Sequence[SweptJob]) -> list[Outcome]:
        if not jobs:
            return []
        try:
            returned = self.launcher.launch([job.launched for job in jobs], initial_job_idx=jobs[0].number)
            return [job.return_value for job in returned]
        except Exception as error:  # a process was killed, and joblib gave up on all of them
            return self._launch_one_by_one(jobs, error)

    def _launch_one_by_one(self, jobs: Sequence[SweptJob], error: Exception) -> list[Outcome]:
        """After a launcher broke: what is left goes on, each job that may have been the reason by itself."""
        found = {job: self._found(job) for job in jobs}
        suspects = [job for job in jobs if found[job] is None and owner_of(job.folder)]
        rest = [job for job in jobs if found[job] is None and job not in suspects]
        if len(rest) == len(jobs):
            raise error  # not one job had begun: it is the launcher
        if len(jobs) == 1 and suspects:
            reason = f"its process ended: {one_line(error)}"
            if jobs[0].folder.is_dir():
                Failure(reason).write(jobs[0].folder)
            return [Outcome(Result.FAILED, reason)]
        for job in suspects:
            (found[job],) = self._launch([job])
        found.update(zip(rest, self._launch(rest), strict=True))
        return [outcome for outcome in found.values() if outcome]

    def _found(self, job: SweptJob) -> Outcome | None:
        """How a job ended, as its folder has it."""
        if failure := failure_since(job.folder, self.since):
            return Outcome(Result.FAILED, failure.line)
        return Outcome(Result.DONE) if job.is_done else None

    def _wait(self, taken: dict[SweptJob, Watch]) -> list[SweptJob]:
        """Take out of `taken` what other processes have ended, until something of it is free to be run here."""
        say(f"waiting for {count_jobs(len(taken))} of other processes")
        while taken:
            free = [job for job, watch in taken.items() if watch.is_free()]
            for job in free:
                taken.pop(job)
            ended = {job: self._found(job) for job in free}
            self.failed |= {job: end.reason for job, end in ended.items() if end and end.result == Result.FAILED}
            if left := [job for job in free if ended[job] is None]:
                return left
            if taken:
                time.sleep(LOOK)
        return []


def _in_batches(jobs: list[SweptJob], size: int | None) -> list[list[SweptJob]]:
    size = size or len(jobs) or 1
    return [jobs[first : first + size] for first in range(0, len(jobs), size)]


class GridSweeper(Sweeper):
    """Every combination of the values given."""

    __module__ = "hydra_plugins.warmup"  # Hydra takes a plugin by a name of this package alone

    def __init__(self, max_batch_size: int | None, params: Mapping[str, Any] | None) -> None:
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is not done, compare, and end with a status that is not 0 if and only if a job failed."""
        assert self.config is not None and self.hydra_context is not None
        folder = Path(self.config.hydra.sweep.dir)
        INTERRUPTION.folder = f"hydra.sweep.dir={os.path.relpath(folder)}"
        jobs = {job: job.standing for job in self.plan(arguments)}
        print_plan(folder, jobs)
        folder.mkdir(parents=True, exist_ok=True)
        SweepPlan({job.subdir: " ".join(job.overrides) for job in jobs}).write(folder)
        runner = JobRunner(self.hydra_context, self.config)
        for batch in _in_batches([job for job in jobs if jobs[job] != Standing.DONE], self.max_batch_size):
            runner.run(batch)
        end_sweep([*jobs], runner.failed, folder, self.config, arguments_for([*runner.failed], self.config))
        say(f"{folder}: {count_jobs(len(jobs))} done")

    def plan(self, arguments: list[str]) -> list[SweptJob]:
        """The jobs that `arguments` and the values of the experiment name.

        Raises:
            UserError: there is none, or one of them is wrong.
        """
        assert self.config is not None and self.hydra_context is not None
        if any(text.startswith("hydra.run.dir=") for text in typed_overrides(self.config, "hydra")):
            raise UserError("hydra.run.dir is of a single run; the folder of a multirun is hydra.sweep.dir=FOLDER")
        loader = self.hydra_context.config_loader
        swept = [f"{key}={value}" for key, value in self.params.items()]
        overrides = OverridesParser.create(loader).parse_overrides([*swept, *arguments])
        for override in overrides:
            if override.is_interval_sweep():
                raise UserError(
                    f"{override.input_line!r} is no list of values: hydra/sweeper=optuna looks for good ones"
                )
            if override.is_sweep_override() and not list(override.sweep_iterator()):
                raise UserError(f"{override.input_line!r} names no value: nothing is to be run")
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return plan_jobs(loader, self.config, jobs)
