"""Where a task's data is on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warmup.config.fields import mapping


@dataclass
class HubSplit:
    """One split of a Hugging Face data set, and where its columns hold the task's fields."""

    path: str | None = None  # hub name, or a local folder of the same layout
    name: str | None = None  # configuration of the data set
    split: str = "train"
    fields: Any = mapping()  # task field -> column, dots reach into structs


@dataclass
class HubSplits:
    """The three splits of a task on the hub."""

    train: HubSplit = field(default_factory=HubSplit)
    validation: HubSplit = field(default_factory=HubSplit)
    test: HubSplit = field(default_factory=HubSplit)
