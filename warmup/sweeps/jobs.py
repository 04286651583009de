"""The jobs of a sweep: each composed and checked once, with the folder that is its own whatever stands beside it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from warmup.command_line import FACTS, is_done
from warmup.config.checks import check
from warmup.config.schema import Config
from warmup.errors import UserError
from warmup.runs.records import RunConfiguration
from warmup.runs.status import Standing, standing_of


@dataclass(frozen=True, eq=False)
class SweptJob:
    """One job of a sweep.

    Attributes:
        number: its place, which `hydra.job.num` says.
        overrides: its own, as `key=value`.
        subdir: its folder below the sweep's, as `hydra.sweep.subdir` says.
        composed: what `config` was checked from.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    subdir: str
    composed: DictConfig
    config: Config

    @property
    def launched(self) -> list[str]:
        """The overrides from which a launcher composes it again: it must come to the same folder."""
        subdir = self.subdir.replace("'", "\\'")
        return [*self.overrides, f"hydra.sweep.subdir='{subdir}'"]

    @property
    def is_done(self) -> bool:
        """Whether its folder has its results.

        Raises:
            UserError: the folder holds another run.
        """
        return self.config.run != "tables" and is_done(self.folder, self.composed, self.config)

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        return standing_of(self.folder, self.is_done)


def plan_jobs(loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[SweptJob]:
    """Compose and check the jobs of the sweep `config`.

    Raises:
        UserError: one of them is wrong, or two would share a folder.
    """
    before = HydraConfig.instance().cfg
    try:
        planned = [_plan_job(loader, config, job, number) for number, job in enumerate(jobs)]
    finally:
        HydraConfig.instance().cfg = before
    _refuse_jobs_alike(planned)
    return planned


def _plan_job(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str], number: int) -> SweptJob:
    composed = loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.num = number
        composed.hydra.job.id = str(number)
    HydraConfig.instance().set_config(composed)  # what ${hydra:job.num} is read from
    own = copy.deepcopy(composed)
    with read_write(own), open_dict(own):
        del own["hydra"]
    checked = check(own, FACTS)
    subdir = str(composed.hydra.sweep.subdir)
    return SweptJob(number, tuple(overrides), Path(composed.hydra.sweep.dir, subdir), subdir, own, checked)


def typed_overrides(config: DictConfig, kind: str) -> list[str]:
    """Of the command line, those of the "task" or of "hydra", with their interpolations as they were typed."""
    words = OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)
    assert isinstance(words, list)
    return words


def _refuse_jobs_alike(jobs: Sequence[SweptJob]) -> None:
    """Raises UserError if two jobs are the same, or would write into one folder, where one run would be lost."""
    seen: dict[str, SweptJob] = {}
    for job in jobs:
        for key in (RunConfiguration.of(job.composed).text, os.path.abspath(job.folder)):
            first = seen.setdefault(key, job)
            if first is not job:
                raise UserError(
                    f"jobs {_job_in_words(first, jobs)} and {_job_in_words(job, jobs)} {_trouble(first, job)}"
                )


def _job_in_words(job: SweptJob, jobs: Sequence[SweptJob]) -> str:
    swept = [word for word in job.overrides if any(word not in other.overrides for other in jobs)]
    return f"{job.number} ({' '.join(swept or job.overrides)})"


def _trouble(first: SweptJob, second: SweptJob) -> str:
    if first.composed == second.composed:
        return "are the same run twice: give each value once"
    return (
        f"would both write into {first.folder}, since nothing that changes a number tells them apart there: put "
        "${hydra:job.num} or what differs between them into hydra.sweep.subdir"
    )
