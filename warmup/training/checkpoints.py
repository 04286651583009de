"""The checkpoints of a run: which there are, which are whole, which are kept, and what they say of the end."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from warmup.errors import UserError
from warmup.files import UNFINISHED
from warmup.manifest import damage
from warmup.models.checkpoints import read_checkpoint

log = logging.getLogger(__name__)
STATE_FILE = "trainer_state.json"


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where the Trainer writes the checkpoint of a step."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def aside(folder: Path) -> Path:
    """Where a checkpoint is written that is not whole yet; what a kill leaves there, the next start removes."""
    return folder / UNFINISHED


def checkpoints(folder: Path) -> list[Path]:
    """The Trainer's checkpoints in the order of their steps; what else lies there is none of ours."""
    steps = [re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in folder.glob("*") if path.is_dir()]
    return [checkpoint_at(folder, step) for step in sorted(int(match[1]) for match in steps if match)]


def read_state(checkpoint: Path) -> TrainerState:
    """The state at a checkpoint that is whole."""
    return TrainerState.load_from_json(str(checkpoint / STATE_FILE))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; None where there are none. Damaged ones are named and passed over.

    Raises:
        UserError: all of them are damaged.
    """
    found = checkpoints(folder)
    for checkpoint in reversed(found):
        fault = damage(checkpoint)
        if fault is None:
            return checkpoint
        log.warning("%s is damaged and passed over: %s", checkpoint, fault)
    if found:
        count = f"all {len(found)} checkpoints in {folder} are" if len(found) > 1 else f"the checkpoint {found[0]} is"
        raise UserError(
            f"{count} damaged ({found[0].name}: {damage(found[0])}): remove {folder} to train from the beginning, or "
            "choose another folder"
        )
    return None


def has_ended(state: TrainerState) -> bool:
    """Whether training was over at this state: the last step was done, or early stopping had seen enough."""
    callbacks: Any = state.stateful_callbacks
    return state.global_step >= state.max_steps or callbacks["TrainerControl"]["args"]["should_training_stop"]


def evaluated_steps(state: TrainerState) -> list[int]:
    """The steps of all evaluations so far, each of which has left a checkpoint."""
    return [int(entry["step"]) for entry in state.log_history if any(key.startswith("eval_") for key in entry)]


def mean_weights(folders: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights saved in `folders`, by name, in float64."""
    total: dict[str, Tensor] = {}
    for folder in folders:
        for name, value in read_checkpoint(str(folder), local_files_only=True).model.state_dict().items():
            total[name] = total[name] + value if name in total else value.double()
    return {name: value / len(folders) for name, value in total.items()}


class KeepCheckpoints(TrainerCallback):
    """Removes old checkpoints, but never the best one, the last `count` beside it, or the last `averaged` of all.

    Not the Trainer's `save_total_limit`, which goes by the time of change, removes any folder that is called
    `checkpoint-` something, and when it has ended the last checkpoint: the one that says so.
    """

    def __init__(self, count: int, averaged: int) -> None:
        self.count, self.averaged = count, averaged

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        best, newest = checkpoint_at(folder, state.best_global_step or 0), checkpoint_at(folder, state.global_step)
        found = checkpoints(folder)  # those behind the newest are damaged, or it would not be the newest
        others = [checkpoint for checkpoint in found[: found.index(newest) + 1] if checkpoint != best]
        averaged = [checkpoint_at(folder, step) for step in evaluated_steps(state)[-self.averaged :]]
        for checkpoint in others[: -self.count]:
            if checkpoint not in averaged:
                shutil.rmtree(checkpoint, ignore_errors=True)
