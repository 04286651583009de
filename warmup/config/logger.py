"""Where training curves go besides the run folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec

from warmup.config.fields import choice
from warmup.errors import UserError, wrong_value

# What pip calls the packages that each tracker needs beside the program's own.
TRACKER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}


@dataclass
class LoggerConfig:
    """Where training curves go besides the run folder; entity, mode and log_... are wandb's."""

    wandb: bool = False
    tensorboard: bool = False  # event files in the run's folder
    mlflow: bool = False  # at MLFLOW_TRACKING_URI, else files beside the run's folder
    project: str = "warmup-generations"  # the experiment, in mlflow's words
    entity: str | None = None
    mode: str = choice("online", "online", "offline", "disabled")
    tags: list[str] = field(default_factory=list)  # beside task, data, model, method and seed
    log_model: bool = False  # as artifacts
    log_predictions: bool = False

    def check(self) -> None:
        """See that packages are there, and names such that wandb takes them: it would refuse others in the run.

        Raises:
            UserError: naming the key, or the package that is not there.
        """
        for tracker, package in TRACKER_PACKAGES.items():
            if getattr(self, tracker) and find_spec(tracker) is None:
                raise UserError(f"logger={tracker} needs a package that is not installed: pip install {package}")
        if not 1 <= len(self.project) <= 128 or set(self.project) & set("/\\#?%:"):
            raise wrong_value("logger.project", self.project, "1 to 128 letters, none of / \\ # ? % :")
        if self.entity is not None and not re.fullmatch(r"(?=.*[A-Za-z])[\w.-]{1,128}", self.entity, re.ASCII):
            allowed = "null, or the name of a wandb user or team: letters, digits, _ and -, with a letter"
            raise wrong_value("logger.entity", self.entity, allowed)
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                raise wrong_value("logger.tags", tag, "tags of 1 to 64 letters")
