"""What of a run goes where the configuration's `logger` says, besides the run's folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from warmup.config.schema import Config, LoggerConfig
from warmup.models.families import Model
from warmup.models.size import count_weights
from warmup.runs.file_names import RunFile
from warmup.runs.finding import find_runs
from warmup.runs.labels import labels_of
from warmup.runs.metrics_records import RunMetrics
from warmup.runs.predictions import Predictions
from warmup.tracking.best_effort import best_effort
from warmup.tracking.identity import Identity
from warmup.tracking.mlflow_run import mlflow_run
from warmup.tracking.training_callback import TrackedTraining
from warmup.tracking.wandb_callback import WandbCallback
from warmup.tracking.wandb_results import log_figures, log_files, log_results
from warmup.tracking.wandb_run import wandb_run
from warmup.training.batches import EncodedExamples
from warmup.training.processes import is_main_process


@dataclasses.dataclass(frozen=True)
class Trackers:
    """Where the run in `folder` is tracked; each None where it is not.

    Attributes:
        wandb: its run.
        board: TensorBoard's SummaryWriter.
        mlflow: the module, with a run begun.
    """

    folder: Path
    wandb: Any = None
    board: Any = None
    mlflow: Any = None

    def callbacks(self, model: Model, examples: EncodedExamples) -> list[TrainerCallback]:
        """Those of a training of `model` on `examples`: none, or one for all trackers."""
        found: dict[str, TrainerCallback] = {}
        if self.wandb:
            found["wandb"] = WandbCallback(self.wandb)
        # the Trainer's own classes, but not through `report_to`, which leaves folders and names to the environment
        if self.board:
            (callback,) = get_reporting_integration_callbacks("tensorboard")
            found["tensorboard"] = callback(self.board)
        if self.mlflow:
            (callback,) = get_reporting_integration_callbacks("mlflow")
            found["mlflow"] = callback()
        if not found:
            return []
        self._say_what_is_trained(model)
        return [TrackedTraining(found, model, examples)]

    def _say_what_is_trained(self, model: Model) -> None:
        """How large the model is; its configuration too where the Trainer's callback does not say it."""
        facts = dict(zip(("parameters", "trained_parameters"), count_weights(model), strict=True))
        if self.wandb:
            with best_effort("wandb", "log model"):
                config = json.loads(model.config.to_json_string(use_diff=False))
                self.wandb.config.update({**facts, "model_config": config}, allow_val_change=True)
        if self.board:
            for name, value in facts.items():
                self.board.add_scalar(f"model/{name}", value, 0)
        if self.mlflow:
            with best_effort("mlflow", "log model"):
                self.mlflow.log_params(facts)
                self.mlflow.log_artifact(str(self.folder / RunFile.CONFIG))

    def results(self, logger: LoggerConfig, metrics: RunMetrics, predictions: Predictions) -> None:
        """A run's scores, answers and figures."""
        scores = {f"test/{name}": score.value for name, score in metrics.scores.items()}
        step = metrics.training_steps or 0
        if self.wandb:
            log_results(self.wandb, metrics, predictions)
            from warmup.reporting.figures.drawing import write_figures

            log_figures(self.wandb, write_figures(find_runs([self.folder]).runs, [], self.folder)[0])
        if self.board:
            with best_effort("tensorboard", "log results"):
                for name, value in scores.items():
                    self.board.add_scalar(name, value, step)
                self.board.close()
        if self.mlflow:
            with best_effort("mlflow", "log results"):
                self.mlflow.log_metrics(scores, step=step)
        if logger.log_predictions:
            self._keep("predictions", RunFile.PREDICTIONS)

    def model(self, logger: LoggerConfig) -> None:
        """The trained model, where it is asked for."""
        if logger.log_model:
            self._keep("model", RunFile.MODEL)

    def _keep(self, kind: str, name: str) -> None:
        """A file or folder of the run, with those trackers that keep files."""
        path = self.folder / name
        if self.wandb:
            log_files(self.wandb, kind, path)
        if self.mlflow:
            with best_effort("mlflow", f"log {kind}"):
                if path.is_dir():
                    self.mlflow.log_artifacts(str(path), kind)
                else:
                    self.mlflow.log_artifact(str(path))


@contextmanager
def trackers_of_job(
    config: Config, written: dict[str, Any], method: str, folder: Path, sweep: Path | None
) -> Iterator[Trackers]:
    """The trackers of the run in `folder`, which are told of it from here on; none but in the main process.

    Args:
        written: the configuration as config.yaml has it.
        method: "sft", "warmup" or "pause".
        sweep: the folder of the multirun that it is a part of.
    """
    if not is_main_process():
        yield Trackers(folder)
        return
    labels = labels_of(config, written, method)
    tags = [str(tag) for tag in config.logger.tags and written["logger"]["tags"]]
    logger = dataclasses.replace(config.logger, tags=tags)
    identity = Identity(
        name=folder.name,
        group=None if sweep is None else sweep.name,
        job_type=method,
        tags=[*(labels[name] for name in ("task", "data", "model", "method")), f"seed {config.seed}"],
    )
    with (
        wandb_run(logger, folder, identity, written) as wandb,
        mlflow_run(logger, folder, identity) as mlflow,
    ):
        yield Trackers(folder, wandb, _board(folder) if logger.tensorboard else None, mlflow)


def _board(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # a resumed run tells all steps again, so that what stands there already no longer counts
    return SummaryWriter(str(folder / RunFile.TENSORBOARD), purge_step=0)
