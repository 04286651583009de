"""Where training curves go besides the run folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from warmup.config.fields import choice
from warmup.errors import wrong_value


@dataclass
class LoggerConfig:
    """Where training curves go besides the run folder."""

    name: str = choice("none", "none", "wandb")
    project: str = "warmup-generations"
    entity: str | None = None
    mode: str = choice("online", "online", "offline", "disabled")
    tags: list[str] = field(default_factory=list)  # beside task, data, model, method and seed
    log_model: bool = False  # as artifacts
    log_predictions: bool = False

    def check(self) -> None:
        """See that names are such that wandb takes them, which would refuse others once the run has begun.

        Raises:
            UserError: naming the key.
        """
        if not 1 <= len(self.project) <= 128 or set(self.project) & set("/\\#?%:"):
            raise wrong_value("logger.project", self.project, "1 to 128 letters, none of / \\ # ? % :")
        if self.entity is not None and not re.fullmatch(r"(?=.*[A-Za-z])[\w.-]{1,128}", self.entity, re.ASCII):
            allowed = "null, or the name of a wandb user or team: letters, digits, _ and -, with a letter"
            raise wrong_value("logger.entity", self.entity, allowed)
        for tag in self.tags:
            if not 1 <= len(tag) <= 64:
                raise wrong_value("logger.tags", tag, "tags of 1 to 64 letters")
