"""The folder of a run: whose it is, whether its run is finished, and that a mistake leaves none behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from warmup.config.neutral_keys import first_difference
from warmup.errors import UserError
from warmup.runs.file_names import WRITTEN_AT_ONCE, RunFile, last_file
from warmup.runs.records import RunConfiguration

ANOTHER_FOLDER = "choose another folder with hydra.run.dir=FOLDER (of a multirun hydra.sweep.dir=FOLDER)"


def finished(folder: Path, composed: DictConfig) -> bool:
    """Whether `folder` holds this very run, done. A killed one goes on; another one is never written over.

    Raises:
        UserError: the folder belongs to a run with another configuration, or holds something else.
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
    if key := first_difference(before, now):
        raise UserError(f"{folder} holds a run with another {key!r}: {ANOTHER_FOLDER}")
    return (folder / last_file(now["run"])).exists()


def remove_if_nothing_was_done(folder: Path) -> bool:
    """Remove a folder in which no result was begun, and say whether it was one."""
    if not {path.name for path in folder.iterdir()} <= {*WRITTEN_AT_ONCE, RunFile.FAILURE}:
        return False
    shutil.rmtree(folder)
    return True
