"""Where examples come from: made up, local files, or the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from warmup.config.fields import choice, mapping, number
from warmup.config.hub_splits import HubSplit, HubSplits
from warmup.errors import UserError, wrong_value
from warmup.files import check_file

MOST_EXAMPLES = 10**9
WHOLE_SPLIT = re.compile(r"\w+(\.\w+)*")
SPLITS = ("train", "validation", "test")


def needed_splits(run: str) -> tuple[str, ...]:
    """The splits that a stage reads."""
    return {"all": SPLITS, "train": SPLITS[:2], "evaluate": SPLITS[2:]}.get(run, ())


@dataclass
class DataConfig:
    """What every source of examples has in common."""

    kind: str = choice(MISSING, "toy", "local", "hub")
    max_train_examples: int | None = number(None, 1, MOST_EXAMPLES)
    max_validation_examples: int | None = number(None, 1, MOST_EXAMPLES)
    max_test_examples: int | None = number(None, 1, MOST_EXAMPLES)

    def check(self, run: str, hub: HubSplits) -> None:
        """See that all is named that the stage `run` reads; `hub` has what the task knows of its columns.

        Raises:
            UserError: naming the key.
        """


@dataclass
class ToyData(DataConfig):
    """Examples made up by `warmup.data.toy`, seeded."""

    kind: str = choice("toy", "toy")
    train_size: int = number(2000, 1, 1_000_000)
    validation_size: int = number(100, 1, 100_000)
    test_size: int = number(200, 1, 100_000)
    seed: int = number(0, 0, 2**31 - 1)


@dataclass
class LocalData(DataConfig):
    """Files: each split is one table (`train`) or two parallel text files (`train_source`, `train_target`)."""

    kind: str = choice("local", "local")
    train: str | None = None
    train_source: str | None = None
    train_target: str | None = None
    validation: str | None = None
    validation_source: str | None = None
    validation_target: str | None = None
    test: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    fields: Any = mapping()  # task field -> column of the file
    validation_fraction: float = number(0.1, 0.0, 0.9)  # split off the training file where no file is named
    test_fraction: float = number(0.1, 0.0, 0.9)
    split_seed: int = number(0, 0, 2**31 - 1)

    def files_of(self, split: str) -> tuple[str | None, str | None, str | None]:
        """The table, and the parallel source and target, that are named for a split."""
        return getattr(self, split), getattr(self, f"{split}_source"), getattr(self, f"{split}_target")

    def check(self, run: str, hub: HubSplits) -> None:
        """As the base class says: files are there, come in pairs, and leave training data."""
        if not needed_splits(run):
            return
        for split in SPLITS:
            self._check_split(split)
        named = {split: any(self.files_of(split)) for split in SPLITS}
        if not named["train"] and not (run == "evaluate" and named["test"]):
            raise UserError(
                "data.train is not set: name a file with data.train=FILE, or two with data.train_source, _target"
            )
        taken = sum(getattr(self, f"{split}_fraction") for split in SPLITS[1:] if not named[split])
        if taken >= 1:
            key = "data.validation_fraction + data.test_fraction"
            raise wrong_value(key, round(taken, 6), "below 1, so that training data is left")

    def _check_split(self, split: str) -> None:
        table, source, target = self.files_of(split)
        if table and (source or target):
            raise UserError(
                f"data.{split} and data.{split}_source/_target are both set; allowed: one table or two parallel files"
            )
        if bool(source) != bool(target):
            present, absent = ("source", "target") if source else ("target", "source")
            raise UserError(
                f"data.{split}_{present} is set without data.{split}_{absent}; parallel files come in pairs"
            )
        for key, path in ((split, table), (f"{split}_source", source), (f"{split}_target", target)):
            if path:
                check_file(path, f"data.{key}")


@dataclass
class HubData(DataConfig):
    """Data sets of the Hugging Face hub; the names come from the task and each can be overridden."""

    kind: str = choice("hub", "hub")
    train: HubSplit = field(default_factory=HubSplit)
    validation: HubSplit = field(default_factory=HubSplit)
    test: HubSplit = field(default_factory=HubSplit)
    streaming: bool = False  # records are read as they are needed, and none is downloaded beyond them

    @property
    def endless(self) -> bool:
        """Whether training reads a stream on and on, instead of examples that it has whole."""
        return self.streaming and self.max_train_examples is None

    def check(self, run: str, hub: HubSplits) -> None:
        """As the base class says: fills in the task's columns, and sees that data sets are named."""
        for name in needed_splits(run):
            split: HubSplit = getattr(self, name)
            # not an interpolation in YAML, since Hydra then could not replace the mapping as a whole
            split.fields = split.fields or getattr(hub, name).fields
            if not split.path:
                raise UserError(f"data.{name}.path is not set: name a hub data set or a folder, data.{name}.path=VALUE")
            if self.streaming and not WHOLE_SPLIT.fullmatch(split.split):
                allowed = (
                    f"the name of a whole split, as a stream has no parts; data.max_{name}_examples takes its first"
                )
                raise wrong_value(f"data.{name}.split", split.split, allowed)
