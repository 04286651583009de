"""Logging to wandb, whose key stays in its own keeping; without a key or a network, logging goes on offline."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from warmup.config.schema import LoggerConfig
from warmup.metrics.registry import score_kinds
from warmup.tracking.best_effort import best_effort
from warmup.tracking.identity import Identity

PATIENCE = 10  # seconds to wait for wandb's server before a run
UPLOAD_PATIENCE = 600  # and for what is left to upload after it
LONGEST_TAG = 64  # letters; wandb refuses more
STEP = "step"  # the x-axis of everything
DATA_FOLDER = os.environ.get("WANDB_DATA_DIR")  # a user's own choice
log = logging.getLogger(__name__)


@contextmanager
def wandb_run(logger: LoggerConfig, folder: Path, identity: Identity, resolved: Mapping[str, Any]) -> Iterator[Any]:
    """A wandb run around what happens inside, recorded below `folder`; None where there is to be none."""
    mode = _mode(logger) if logger.wandb else "disabled"
    if mode == "disabled":
        yield None
        return
    run = _open(logger, folder, identity, resolved, mode)
    run.define_metric(STEP)
    for section in ("train", "warmup"):
        run.define_metric(f"{section}/*", step_metric=STEP)
    run.define_metric("dev/*", step_metric=STEP, summary="max")
    run.define_metric("dev/loss", step_metric=STEP, summary="min")
    for kind in score_kinds().values():
        if not kind.larger_is_better:
            run.define_metric(f"dev/{kind.name}", step_metric=STEP, summary="min")
    try:
        yield run
    except BaseException:
        _close(run, 1)
        raise
    _close(run, 0)


def _mode(logger: LoggerConfig) -> str:
    """`logger.mode`; where that is `online`, wandb's own WANDB_MODE may say otherwise."""
    wanted = os.environ.get("WANDB_MODE", "")
    return wanted if logger.mode == "online" and wanted in ("offline", "disabled") else logger.mode


def _open(logger: LoggerConfig, folder: Path, identity: Identity, resolved: Mapping[str, Any], mode: str) -> Any:
    import wandb

    # where artifacts wait for their upload: beside the rest, and not in the home of who runs this
    os.environ["WANDB_DATA_DIR"] = DATA_FOLDER or str(folder / "wandb")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports wait for a network

    def start(how: str) -> Any:
        return wandb.init(
            mode=how,  # type: ignore[arg-type]  # checked with the configuration
            project=logger.project,
            entity=logger.entity,
            name=identity.name,
            group=identity.group,
            job_type=identity.job_type,
            tags=_tags([*identity.tags, *logger.tags]),
            dir=str(folder),
            config=dict(resolved),
            reinit="finish_previous",  # of a job that failed
            settings=wandb.Settings(
                console="off",
                quiet=True,
                silent=True,
                disable_git=True,  # a remote's address may hold a token; environment.json has the commit
                init_timeout=3 * PATIENCE,
                finish_timeout=UPLOAD_PATIENCE,
                finish_timeout_raises=True,
            ),
        )

    obstacle = obstacle_to_upload() if mode == "online" else None
    if mode == "online" and obstacle is None:
        try:
            return start("online")
        except wandb.Error as error:  # a key that the server refuses, a project that may not be written
            obstacle = " ".join(str(error).split())[:200]
    if obstacle:
        log.warning("wandb: %s; logging offline; later: wandb sync %s/wandb/offline-run-*", obstacle, folder)
    return start("offline")


def obstacle_to_upload() -> str | None:
    """Why nothing can be sent now; None when something can. Asked first, since wandb itself retries for minutes."""
    import wandb

    key = wandb.api.api_key
    if key is None:
        return "no key (run `wandb login`)"
    server = os.environ.get("WANDB_BASE_URL") or str(wandb.api.settings("base_url"))
    question = {"query": "query { viewer { id } }"}
    try:
        reply = requests.post(f"{server}/graphql", json=question, auth=("api", key), timeout=PATIENCE)
    except requests.RequestException:
        return "its server cannot be reached"
    if reply.status_code in (401, 403) or '"viewer":null' in reply.text.replace(" ", ""):
        return "its server refuses the key (run `wandb login --relogin`)"
    return None if reply.ok else f"its server answers with an error ({reply.status_code})"


def _tags(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(word[:LONGEST_TAG] for word in words if word))


@best_effort("wandb", "close")
def _close(run: Any, exit_code: int) -> None:
    """End the run, so that the next job of a multirun gets one of its own; name the command that uploads the rest."""
    recorded = Path(run.settings.sync_dir)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        log.warning("wandb: the upload did not end in %d s; later: wandb sync %s", UPLOAD_PATIENCE, recorded)
        return
    if run.offline:
        log.info("wandb: recorded offline; to upload it: wandb sync %s", recorded)
