"""A run in mlflow: at MLFLOW_TRACKING_URI, or in files beside the run's folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from warmup.config.schema import LoggerConfig
from warmup.tracking.best_effort import best_effort
from warmup.tracking.identity import Identity

STORE = "mlruns"
SETTINGS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # which mlflow otherwise refuses, in favour of a database
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is not there is asked for minutes by default
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
log = logging.getLogger(__name__)


@contextmanager
def mlflow_run(logger: LoggerConfig, folder: Path, identity: Identity) -> Iterator[Any]:
    """The `mlflow` module with a run begun, around what happens inside; None where there is to be none."""
    if not logger.mlflow:
        yield None
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server or not _begun(mlflow, server, logger, identity):
        store = folder.absolute().parent / STORE
        if server:
            log.warning("mlflow: %s cannot be used; recorded in %s instead", server, store)
        store.mkdir(parents=True, exist_ok=True)
        with FileLock(store.with_name(f".{STORE}.lock")):  # two jobs would make two experiments of one name
            _begun(mlflow, store.as_uri(), logger, identity)
    status = "FAILED"
    try:
        yield mlflow
        status = "FINISHED"
    finally:
        with best_effort("mlflow", "closing the run"):
            mlflow.flush_async_logging()
            mlflow.end_run(status)


def _begun(mlflow: Any, address: str, logger: LoggerConfig, identity: Identity) -> bool:
    """Whether a run was begun at `address`."""
    with best_effort("mlflow", "beginning a run"):
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment(logger.project)
        tags = {"method": identity.job_type, **({"sweep": identity.group} if identity.group else {})}
        mlflow.start_run(run_name=identity.name, tags={**tags, **{tag: "true" for tag in logger.tags}})
        return True
    return False
