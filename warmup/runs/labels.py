"""What names a run in tables: its task, data, model, method and seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmup.config.languages import language_code
from warmup.config.schema import Config, HubData, LocalData, TaskConfig

OF_THE_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)[^{}]*\}")  # the default in it may hold a path of its own


def labels_of(config: Config, written: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The labels of a run that answers by `method`, "sft", "warmup" or "pause"; `written` as in its config.yaml."""
    return {
        "task": task_label(config.task),
        "data": _data_label(config, written["data"]),
        "model": written["checkpoint"] or written["model"]["name"],
        "method": method,
        "seed": config.seed,
    }


def task_label(task: TaskConfig) -> str:
    """The task as tables name it: a translation with its languages."""
    pair = f" {language_code(task.source_language)}-{language_code(task.target_language)}"
    return task.name + (pair if task.name == "translation" else "")


def _data_label(config: Config, written: Mapping[str, Any]) -> str:
    data = config.data
    if isinstance(data, HubData):
        return str(written["test"]["path"])
    if isinstance(data, LocalData):
        file = next(filter(None, (written[key] for key in ("train", "train_source", "test", "test_source"))), "")
        return Path(OF_THE_ENVIRONMENT.sub(r"\1", file)).expanduser().resolve().parent.name
    return data.kind
