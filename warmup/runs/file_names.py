"""The files of a run's folder: the one list, which docs/configuration.md shows, the code goes by and tests compare."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from warmup.training.results import (
    CHECKPOINTS_FOLDER,
    HISTORY_FILE,
    MODEL_FOLDER,
    PROFILE_FILE,
    SKIPPED_STEPS_FILE,
    TRACE_FILE,
    TRAINING_FILE,
)

DEBUG_FOLDER = "debug"  # in outputs/, where conf/debug has its runs written


class RunFile(StrEnum):
    """A file or a folder that a run may leave, in about the order in which they appear; figures come beside."""

    CONFIG = "config.yaml"
    INPUTS = "inputs.json"
    ENVIRONMENT = "environment.json"
    LOG = "train.log"
    HISTORY = HISTORY_FILE
    CHECKPOINTS = CHECKPOINTS_FOLDER
    TRAINING = TRAINING_FILE
    MODEL = MODEL_FOLDER
    PREDICTIONS = "predictions.jsonl"
    SEGMENT_SCORES = "segment_scores.json"
    WARMUP_ANALYSIS = "warmup_analysis.json"
    METRICS = "metrics.json"
    TABLE_MARKDOWN = "comparison.md"
    TABLE_LATEX = "comparison.tex"
    TABLE_CSV = "comparison.csv"
    ANALYSIS_JSON = "analysis.json"
    ANALYSIS_MARKDOWN = "analysis.md"
    PAGE = "report.html"
    FAILURE = "error.txt"
    SKIPPED_STEPS = SKIPPED_STEPS_FILE
    PROFILE = PROFILE_FILE
    TRACE = TRACE_FILE
    WANDB = "wandb"
    TENSORBOARD = "tensorboard"


WRITTEN_AT_ONCE = {RunFile.CONFIG, RunFile.ENVIRONMENT, RunFile.LOG}  # before there is anything to lose


def folders_with(folder: Path, names: Iterable[str]) -> list[Path]:
    """The folders in `folder` and below with a file of one of these names; of debug=... only where it is theirs."""
    found = {path.parent for name in names for path in folder.rglob(str(name))}
    return sorted(path for path in found if DEBUG_FOLDER not in path.relative_to(folder).parts)


def last_file(stage: str) -> RunFile:
    """The file, or folder, that a finished stage wrote last, whole or not at all."""
    return {"predict": RunFile.PREDICTIONS, "train": RunFile.MODEL}.get(stage, RunFile.METRICS)
