"""What a sweep says: before its first job which is which; at its end what failed, why, and how to run that again."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from warmup.config.schema import LoggerConfig
from warmup.display import say
from warmup.runs.finding import TRAINING_STAGES
from warmup.runs.lock import owner_of
from warmup.runs.status import Standing
from warmup.sweeps.jobs import SweptJob, typed_overrides

PROGRAM = "python scripts/train.py"
BEFORE_A_SWEEP = {
    Standing.DONE: "done",
    Standing.RUNNING: "under way elsewhere",
    Standing.FAILED: "failed before, runs again",
    Standing.STOPPED: "stopped before, goes on",
    Standing.WAITING: "new",
}
NEXT_STEPS = """
What to try next (each run has its own folder in {folder}, with model/, predictions.jsonl and metrics.json):
  read what a model wrote     less {folder}/*/predictions.jsonl
  answer a file of your own   python scripts/train.py run=predict checkpoint={folder}/RUN/model inputs=FILE
  see every choice            python scripts/train.py --help
"""


def count_jobs(number: int) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} job{'' if number == 1 else 's'}"


def print_plan(folder: Path, jobs: Mapping[SweptJob, Standing]) -> None:
    """A line for each job."""
    counts = Counter(jobs.values())
    found = ", ".join(f"{counts[standing]} {words}" for standing, words in BEFORE_A_SWEEP.items() if counts[standing])
    say(f"{folder}: {count_jobs(len(jobs))}: {found}")
    for job, standing in jobs.items():
        owner = f" ({owner_of(job.folder)})" if standing == Standing.RUNNING else ""
        say(f"  {BEFORE_A_SWEEP[standing]}{owner}: {job.subdir}")


def print_failures(failed: Mapping[SweptJob, str], jobs: int, again: Sequence[str]) -> None:
    """What failed, why, and the command that runs just that again (its arguments are `again`), on standard error."""
    lines = [f"{len(failed)} of {count_jobs(jobs)} failed:"]
    lines += [f"  {job.subdir}: {reason}" for job, reason in failed.items()]
    lines += ["to run just these again (what is done is left as it is):", f"  {PROGRAM} {shlex.join(again)}"]
    say("\n".join(lines), sys.stderr)


def arguments_for(jobs: Sequence[SweptJob], config: DictConfig) -> list[str]:
    """The arguments that run just `jobs` of a grid; where they are no product, all of it, which skips the rest."""
    options = [word for word in sys.argv[1:] if word not in ("-m", "--multirun")]
    while options and "=" in options[-1] and not options[-1].startswith("-"):  # overrides stand behind the options
        options.pop()
    hydra = [word for word in typed_overrides(config, "hydra") if not word.startswith("hydra.mode=")]
    if not any(word.startswith("hydra.sweep.dir=") for word in hydra):
        hydra.append(f"hydra.sweep.dir={config.hydra.sweep.dir}")
    return ["-m", *options, *(together([job.overrides for job in jobs]) or typed_overrides(config, "task")), *hydra]


def together(jobs: Sequence[Sequence[str]]) -> list[str] | None:
    """The overrides of a sweep over exactly these jobs; None where they are no product of values."""
    values: dict[str, list[str]] = {}
    for job in jobs:
        for word in job:
            key, _, value = word.partition("=")
            if value not in values.setdefault(key, []):
                values[key].append(value)
    if prod(map(len, values.values())) != len(jobs):
        return None
    every = {
        tuple(f"{key}={value}" for key, value in zip(values, chosen, strict=True))
        for chosen in product(*values.values())
    }
    return [f"{key}={','.join(found)}" for key, found in values.items()] if every == set(map(tuple, jobs)) else None


def compare_jobs(jobs: Sequence[SweptJob], folder: Path, config: DictConfig) -> None:
    """The comparison of the jobs that have scores, written into the sweep's folder; nothing where none has."""
    scored = [job.folder for job in jobs if job.config.run in TRAINING_STAGES and job.folder.is_dir()]
    if scored:
        from warmup.overviews import compare  # here, so that a sweep is checked before anything heavy is loaded

        logger = OmegaConf.to_object(config.logger)
        assert isinstance(logger, LoggerConfig)
        compare(scored, folder, logger)
        say(NEXT_STEPS.format(folder=folder))


def end_sweep(
    jobs: Sequence[SweptJob], failed: Mapping[SweptJob, str], folder: Path, config: DictConfig, again: Sequence[str]
) -> None:
    """Compare the jobs and say what failed; exits with 1 if anything did. `again`: the arguments that run just that."""
    try:
        compare_jobs(jobs, folder, config)
    finally:
        if failed:
            print_failures(failed, len(jobs), again)
    if failed:
        sys.exit(1)
