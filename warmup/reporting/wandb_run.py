"""Logging to wandb, whose key stays in its own keeping; without a key or a network, logging goes on offline."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import requests

from warmup.config.schema import LoggerConfig

PATIENCE = 10  # seconds to wait for wandb's server
log = logging.getLogger(__name__)


def start(logger: LoggerConfig, folder: Path, resolved: dict[str, Any]) -> None:
    """Open the wandb run that the Hugging Face Trainer then writes its entries to."""
    import wandb

    mode = logger.mode
    if mode == "online" and (obstacle := _obstacle()):
        log.warning("wandb: %s; logging offline; later: wandb sync %s/wandb/offline-run-*", obstacle, folder)
        mode = "offline"
    wandb.init(
        mode=mode,  # type: ignore[arg-type]  # checked with the configuration
        project=logger.project,
        entity=logger.entity,
        name=folder.name,
        dir=str(folder),
        config=resolved,
        reinit="finish_previous",  # of a job that failed
        settings=wandb.Settings(console="off", quiet=True),
    )


def _obstacle() -> str | None:
    """Why nothing can be sent now; None when something can. Asked first, since wandb itself retries for minutes."""
    import wandb

    if wandb.api.api_key is None:
        return "no key (run `wandb login`)"
    try:
        requests.head(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout=PATIENCE)
    except requests.RequestException:
        return "its server cannot be reached"
    return None


def finish() -> None:
    """Close the run, so that the next job of a multirun gets one of its own."""
    import wandb

    wandb.finish()
