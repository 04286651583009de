"""The folder of a run: whose it is, whether its run is finished, and that a mistake leaves none behind."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from warmup.config.neutral_keys import first_difference
from warmup.errors import UserError
from warmup.runs.file_names import WRITTEN_AT_ONCE, RunFile, last_file
from warmup.runs.records import Environment, RunConfiguration
from warmup.training.processes import is_main_process, number_of_processes

DEALT = ("batch_size", "gradient_accumulation_steps")  # of `trainer`: with the processes, the examples of a step
ANOTHER_FOLDER = "choose another folder with hydra.run.dir=FOLDER (of a multirun hydra.sweep.dir=FOLDER)"


def finished(folder: Path, composed: DictConfig) -> bool:
    """Whether `folder` holds this very run, done. A killed one goes on; another one is never written over.

    Raises:
        UserError: the folder belongs to a run with another configuration or other examples in a step, or holds
            something else.
    """
    if not (folder / RunFile.CONFIG).is_file():
        ours = WRITTEN_AT_ONCE | {RunFile.FAILURE}
        foreign = sorted(path.name for path in folder.glob("[!.]*") if path.name not in ours)
        if foreign:
            raise UserError(f"{folder} is not empty ({foreign[0]}) and holds no run: choose another folder")
        return False
    try:
        before = RunConfiguration.read(folder).values
    except UserError as error:
        raise UserError(f"{error}: {ANOTHER_FOLDER}") from error
    now = RunConfiguration.of(composed).values
    if now["run"] in ("all", "train"):
        before, now = _by_global_batch(folder, before, now)
    if key := first_difference(before, now):
        raise UserError(f"{folder} holds a run with another {key!r}: {ANOTHER_FOLDER}")
    return (folder / last_file(now["run"])).exists()


def _by_global_batch(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both configurations without what says how an optimiser step's examples are dealt out to processes and parts.

    Raises:
        UserError: a step had another number of examples.
    """
    before, now = deepcopy(before), deepcopy(now)
    try:
        processes = Environment.read(folder).processes
        if processes is None:  # of an older version
            return before, now
        deals = [[int(config["trainer"].pop(key)) for key in DEALT] for config in (before, now)]
    except (UserError, AttributeError, KeyError, TypeError, ValueError):  # somebody has edited the file
        return before, now
    had, has = (math.prod(deal) * count for deal, count in zip(deals, (processes, number_of_processes()), strict=True))
    if had != has and is_main_process():  # which may have written its own numbers before another looks
        raise UserError(
            f"{folder} holds a run of {had} examples a step, and these would be {has} (trainer.batch_size x "
            f"trainer.gradient_accumulation_steps x processes): {ANOTHER_FOLDER}"
        )
    return before, now


def remove_if_nothing_was_done(folder: Path) -> bool:
    """Remove a folder in which no result was begun, and say whether it was one."""
    if not {path.name for path in folder.iterdir()} <= {*WRITTEN_AT_ONCE, RunFile.FAILURE}:
        return False
    shutil.rmtree(folder)
    return True
