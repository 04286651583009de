"""The splits of an experiment, worded and limited, wherever they come from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from warmup.config.schema import DataConfig, HubData, LocalData, TaskConfig, ToyData
from warmup.data import toy
from warmup.data.examples import Example, Wording
from warmup.data.hub import read_hub
from warmup.data.local import BUILDERS, Record, kind_of, read_parallel, read_table, read_texts
from warmup.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass
class Splits:
    """The examples of each split; empty where a split was not asked for."""

    train: list[Example] = field(default_factory=list)
    validation: list[Example] = field(default_factory=list)
    test: list[Example] = field(default_factory=list)


def load_splits(task: TaskConfig, data: DataConfig, needed: Sequence[str] = SPLITS) -> Splits:
    """Read and word the `needed` splits; `data.max_*_examples` keeps the first n of each.

    Raises:
        UserError: whatever is wrong with a file, a record or a name, with the place.
    """
    wording = Wording.from_config(task)
    limits = {split: getattr(data, f"max_{split}_examples") for split in SPLITS}
    if isinstance(data, ToyData):
        found = _toy_splits(task, data, wording)
    elif isinstance(data, LocalData):
        found = _local_splits(data, wording, needed, limits)
    else:
        assert isinstance(data, HubData)
        found = {split: _worded(read_hub(getattr(data, split)), wording, limits[split]) for split in needed}
    for split in needed:
        if not found[split]:
            raise UserError(f"the {split} split is empty: check data.{split}, or the fractions it is split off by")
    return Splits(**{split: found[split][: limits[split]] for split in needed})


def load_inputs(path: str, wording: Wording, fields: dict[str, str] | None = None) -> list[Example]:
    """The sources of a file without references: a table, or a text of one source a line.

    Raises:
        UserError: as `load_splits`, or a plain text for a task that words several fields.
    """
    from pathlib import Path

    if kind_of(Path(path)) in BUILDERS:
        records: Iterable[Record] = read_table(path, fields)
    elif len(wording.source_fields) == 1:
        records = read_texts(path, wording.source_fields[0])
    else:
        raise UserError(
            f"{path}: this task reads {', '.join(wording.source_fields)}, which a plain text cannot hold; allowed: "
            f"{', '.join(BUILDERS)}, each also as .gz"
        )
    examples = [wording.example(record, where, with_target=False) for record, where in records]
    if not examples:
        raise UserError(f"{path} holds no input")
    return examples


def _worded(records: Iterable[Record], wording: Wording, limit: int | None) -> list[Example]:
    return [wording.example(record, where) for record, where in islice(records, limit)]


def _toy_splits(task: TaskConfig, data: ToyData, wording: Wording) -> dict[str, list[Example]]:
    """One stream of distinct records, cut in three: test and validation come first, whatever the training size."""
    sizes = [data.test_size, data.validation_size, data.train_size]
    records = toy.generate(task.name, sum(sizes), data.seed)
    examples = [wording.example(record, f"toy record {number}") for number, record in enumerate(records, start=1)]
    test, rest = examples[: sizes[0]], examples[sizes[0] :]
    return {"test": test, "validation": rest[: sizes[1]], "train": rest[sizes[1] :]}


def _local_splits(
    data: LocalData, wording: Wording, needed: Sequence[str], limits: dict[str, int | None]
) -> dict[str, list[Example]]:
    named = [split for split in SPLITS if getattr(data, split) or getattr(data, f"{split}_source")]
    absent = [split for split in ("validation", "test") if split not in named]
    # a split that is cut off the training file needs all of that file
    cut = any(split in needed for split in absent)
    read = {split for split in named if split in needed} | ({"train"} if cut else set())
    found = {}
    for split in read:
        table = getattr(data, split)
        records = (
            read_table(table, data.fields)
            if table
            else read_parallel(getattr(data, f"{split}_source"), getattr(data, f"{split}_target"))
        )
        found[split] = _worded(records, wording, None if cut and split == "train" else limits[split])
    if absent and "train" in read:
        fractions = {split: getattr(data, f"{split}_fraction") for split in absent}
        found.update(split_off(found["train"], fractions, data.split_seed))
    return found


def split_off(examples: Sequence[Example], fractions: dict[str, float], seed: int) -> dict[str, list[Example]]:
    """Disjoint splits: `fractions` of the examples by name, the rest as `train`, each in the file's order.

    Examples of one and the same prompt stay together, so that no test question was trained on.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.prompt, []).append(index)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    chosen: dict[str, list[int]] = {}
    start = 0
    for split, fraction in fractions.items():
        chosen[split] = []
        while len(chosen[split]) < round(fraction * len(examples)) and start < len(order):
            chosen[split] += order[start]
            start += 1
    chosen["train"] = [index for group in order[start:] for index in group]
    return {split: [examples[index] for index in sorted(indices)] for split, indices in chosen.items()}
