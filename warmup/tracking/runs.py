"""What of a run goes to wandb."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from warmup.config.schema import Config, LoggerConfig
from warmup.reporting.figures.drawing import write_figures
from warmup.runs.file_names import RunFile
from warmup.runs.finding import find_runs
from warmup.runs.labels import labels_of
from warmup.runs.metrics_records import RunMetrics
from warmup.runs.predictions import Predictions
from warmup.tracking.wandb_results import log_figures, log_files, log_results
from warmup.tracking.wandb_run import Identity, wandb_run
from warmup.training.processes import is_main_process


def run_of_job(
    config: Config, written: dict[str, Any], method: str, folder: Path, sweep: Path | None
) -> AbstractContextManager[Any]:
    """The wandb run of the run in `folder`; None inside it where nothing is logged to wandb.

    Args:
        written: the configuration as config.yaml has it.
        method: "sft", "warmup" or "pause".
        sweep: the folder of the multirun that it is a part of.
    """
    labels = labels_of(config, written, method)
    identity = Identity(
        name=folder.name,
        group=None if sweep is None else sweep.name,
        job_type=method,
        tags=[*(labels[name] for name in ("task", "data", "model", "method")), f"seed {config.seed}"],
    )
    tags = [str(tag) for tag in config.logger.tags and written["logger"]["tags"]]
    logger = dataclasses.replace(config.logger, tags=tags) if is_main_process() else LoggerConfig()
    return wandb_run(logger, folder, identity, written)


def track_results(
    wandb: Any, logger: LoggerConfig, folder: Path, metrics: RunMetrics, predictions: Predictions
) -> None:
    """A run's scores, answers and figures."""
    log_results(wandb, metrics, predictions)
    log_figures(wandb, write_figures(find_runs([folder]).runs, [], folder)[0])
    if logger.log_predictions:
        log_files(wandb, "predictions", folder / RunFile.PREDICTIONS)
