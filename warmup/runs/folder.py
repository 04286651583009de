"""The folder of a run: whose it is, whether its run is finished, and that a mistake leaves none behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from warmup.config.neutral_keys import first_difference
from warmup.errors import UserError
from warmup.files import write_text

ANOTHER_FOLDER = "choose another folder with hydra.run.dir=FOLDER (of a multirun hydra.sweep.dir=FOLDER)"
WRITTEN_AT_ONCE = {"config.yaml", "environment.json", "train.log"}  # before there is anything to lose


def finished(folder: Path, composed: DictConfig) -> bool:
    """Whether `folder` holds this very run, done. A killed one goes on; another one is never written over.

    Raises:
        UserError: the folder belongs to a run with another configuration, or holds something else.
    """
    if not (folder / "config.yaml").is_file():
        foreign = sorted(path.name for path in folder.glob("[!.]*") if path.name not in WRITTEN_AT_ONCE | {"error.txt"})
        if foreign:
            raise UserError(f"{folder} is not empty ({foreign[0]}) and holds no run: choose another folder")
        return False
    before = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    now = OmegaConf.to_container(composed, resolve=True)
    if not isinstance(before, dict) or not isinstance(now, dict):
        raise UserError(f"{folder / 'config.yaml'} is not what a run writes: choose another folder")
    if key := first_difference(before, now):
        raise UserError(f"{folder} holds a run with another {key!r}: {ANOTHER_FOLDER}")
    return (folder / last_file(now["run"])).is_file()


def last_file(run: str) -> str:
    """The file that a finished stage wrote last, whole or not at all."""
    return "predictions.jsonl" if run == "predict" else "metrics.json"


def remove_if_nothing_was_done(folder: Path) -> bool:
    """Remove a folder in which no result was begun, and say whether it was one."""
    if not {path.name for path in folder.iterdir()} <= WRITTEN_AT_ONCE:
        return False
    shutil.rmtree(folder)
    return True


def note_failure(folder: Path, line: str) -> None:
    """Write `line` to error.txt, where tables look for failed runs."""
    try:
        write_text(folder / "error.txt", line + "\n")
    except UserError:  # the disk is full, which `line` says already
        return
