"""What the `conf` folder holds: the groups with their choices, and the tasks that there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

CONF = (Path(__file__).parents[1] / "conf").resolve()  # a link to the repository's; in a wheel a folder


def config_groups(own_folders: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Each configuration group and its choices: those of the `conf` folder, and the user's own (`--config-dir`)."""
    folders = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir() and folder.name != "hydra"]
    return {
        folder.name: sorted(
            {file.stem for root in (CONF, *own_folders) for file in (root / folder.name).glob("*.yaml")}
        )
        for folder in folders
    }


@cache
def task_names() -> tuple[str, ...]:
    """What the files of conf/task say as `name`, each once: a new task is a new file."""
    named = (OmegaConf.select(OmegaConf.load(file), "name") for file in sorted((CONF / "task").glob("*.yaml")))
    return tuple(dict.fromkeys(str(name) for name in named if name))
