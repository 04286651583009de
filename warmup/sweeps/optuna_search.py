"""The sweeper `hydra/sweeper=optuna`: Optuna proposes values, a trial is a job, its objective the best dev score.

hydra-optuna-sweeper would be the plugin for this, but its release for Hydra 1.3 needs Optuna 2, and of a study that is
given again it counts the trials from nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from warmup.display import say
from warmup.errors import UserError, wrong_value
from warmup.metrics.registry import larger_is_better
from warmup.runs.lock import writing
from warmup.runs.sweep_plan import SweepPlan
from warmup.sweeps.grid import JobRunner
from warmup.sweeps.jobs import SweptJob, plan_jobs
from warmup.sweeps.summary import end_sweep
from warmup.training.interruption import INTERRUPTION
from warmup.training.results import TrainingHistory

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution


class OptunaSweeper(Sweeper):
    """Proposes values until `trials` of them were tried."""

    __module__ = "hydra_plugins.warmup"  # Hydra takes a plugin by a name of this package alone

    def __init__(self, params: Mapping[str, Any] | None, trials: int, n_jobs: int, **study: Any) -> None:
        for key, value in (("trials", trials), ("n_jobs", n_jobs), ("seed", study["seed"])):
            if not isinstance(value, int) or value < 1:
                raise wrong_value(f"hydra.sweeper.{key}", value, "a whole number, at least 1")
        self.params, self.trials, self.n_jobs, self.study = params or {}, trials, n_jobs, study

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Go on with the study, compare its jobs, and end with a status that is not 0 if and only if one failed."""
        assert self.config is not None and self.hydra_context is not None
        folder = Path(self.config.hydra.sweep.dir)
        INTERRUPTION.folder = f"hydra.sweep.dir={os.path.relpath(folder)}"
        space, fixed = self._space(arguments)
        (job,) = self._plan(fixed)
        if job.config.run not in ("all", "train"):
            raise wrong_value("run", job.config.run, "all or train with hydra/sweeper=optuna, which needs a dev score")
        study = self._open(folder, larger_is_better(job.config.task.selection_metric))
        with writing(folder):
            runner = JobRunner(self.hydra_context, self.config)
            search = Search(study, runner, lambda params: self._plan([*fixed, *params])[0], folder)
            search.run(self.trials, self.n_jobs, space)
        end_sweep([*search.jobs.values()], runner.failed, folder, self.config, sys.argv[1:])
        values = " ".join(f"{key}={value}" for key, value in study.best_params.items())
        say(f"best of {search.tried} trials, dev {job.config.task.selection_metric} {study.best_value:.4g}: {values}")

    def _plan(self, overrides: Sequence[str]) -> list[SweptJob]:
        assert self.config is not None and self.hydra_context is not None
        return plan_jobs(self.hydra_context.config_loader, self.config, [overrides])

    def _space(self, arguments: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
        """What is searched, by key, and all other overrides."""
        import_optuna()
        assert self.hydra_context is not None
        parser = OverridesParser.create(self.hydra_context.config_loader)
        swept = [f"{key}={value}" for key, value in self.params.items()]
        given = {found.get_key_element(): found for found in parser.parse_overrides([*swept, *arguments])}
        space = {key: _distribution(found) for key, found in given.items() if found.is_sweep_override()}
        if not space:
            raise UserError("nothing to search: give a range, as 'trainer.learning_rate=tag(log,interval(1e-5,1e-3))'")
        return space, [f"{key}={found.get_value_element_as_str()}" for key, found in given.items() if key not in space]

    def _open(self, folder: Path, larger_is_better: bool) -> Study:
        optuna = import_optuna()
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=str(self.study["study_name"]),
            storage=str(self.study["storage"]),
            direction="maximize" if larger_is_better else "minimize",
            load_if_exists=True,
        )
        # one that goes on shall not propose what it proposed before
        study.sampler = optuna.samplers.TPESampler(seed=self.study["seed"] + len(study.trials))
        return study


class Search:
    """The trials of a study: `jobs` by folder, `tried` those that have a score or failed at this call."""

    def __init__(
        self, study: Study, runner: JobRunner, plan: Callable[[Sequence[str]], SweptJob], folder: Path
    ) -> None:
        self.study, self.runner, self.plan, self.folder = study, runner, plan, folder
        self.jobs: dict[Path, SweptJob] = {}
        self.tried = 0

    def run(self, trials: int, together: int, space: Mapping[str, BaseDistribution]) -> None:
        """Until there are `trials`, those of earlier calls counted; what was under way or failed then comes first."""
        self._take_up()
        say(f"{self.folder}: {self.tried} of {trials} trials done")
        while (left := trials - self.tried) > 0:
            self._try([self.study.ask(dict(space)) for _ in range(min(left, together))])

    def _take_up(self) -> None:
        state = import_optuna().trial.TrialState
        trials = self.study.trials
        scored = [trial.params for trial in trials if trial.state == state.COMPLETE]
        for params in scored:
            self._job(params)
        self.tried = len(scored)
        again: list[dict[str, Any]] = []
        for trial in trials:
            if trial.state == state.RUNNING:  # nobody else has the study: its process was killed
                self.study.tell(trial.number, state=state.FAIL)
            if trial.state in (state.RUNNING, state.FAIL) and trial.params not in [{}, *scored, *again]:
                again.append(trial.params)
                self.study.enqueue_trial(trial.params)

    def _try(self, trials: Sequence[Trial]) -> None:
        state = import_optuna().trial.TrialState
        jobs = [self._job(trial.params) for trial in trials]
        SweepPlan({job.subdir: " ".join(job.overrides) for job in self.jobs.values()}).write(self.folder)
        for trial, job in zip(trials, jobs, strict=True):
            say(f"trial {trial.number}: {' '.join(_words(trial.params))}: {job.subdir}")
        self.runner.run([job for job in dict.fromkeys(jobs) if not job.is_done])
        for trial, job in zip(trials, jobs, strict=True):
            self.tried += 1
            if job in self.runner.failed:
                self.study.tell(trial, state=state.FAIL)
            else:
                self.study.tell(trial, best_dev_score(job))

    def _job(self, params: Mapping[str, Any]) -> SweptJob:
        """The same values are one job, however often they are proposed."""
        job = self.plan(_words(params))
        return self.jobs.setdefault(job.folder, job)


def import_optuna() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("hydra/sweeper=optuna needs optuna, which is not installed: pip install '.[optuna]'") from error
    return optuna


def best_dev_score(job: SweptJob) -> float:
    """Of its selection metric, over all evaluations of its training."""
    metric = job.config.task.selection_metric
    scores = [
        entry[f"eval_{metric}"] for entry in TrainingHistory.read(job.folder).entries if f"eval_{metric}" in entry
    ]
    if not scores:
        raise UserError(f"{job.folder} has no dev score of {metric} in its history")
    return float((max if larger_is_better(metric) else min)(scores))


def _words(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def _distribution(override: Override) -> BaseDistribution:
    """Hydra's way to write a range, as Optuna has it; `int(interval(...))` is of whole numbers."""
    distributions = import_optuna().distributions
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(value.start, value.end, log="log" in value.tags)
    if isinstance(value, RangeSweep) and all(isinstance(part, int) for part in (value.start, value.step)):
        numbers = [int(text) for text in override.sweep_string_iterator()]
        if numbers and not value.shuffle:
            return distributions.IntDistribution(min(numbers), max(numbers), step=abs(int(value.step or 1)))
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise UserError(f"{override.input_line!r} names no value: nothing is to be run")
    return distributions.CategoricalDistribution(texts)
