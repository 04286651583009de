"""What each optimiser step learns from: the same examples in the same order however many processes share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from warmup.models.encoding import IGNORED_LABEL

FILLER = -1  # the index that stands for no example
READ = "examples"  # of a batch: the indices of what is in it


class EncodedExamples(Dataset):
    """Token ids of sources and targets, made once before training, each with its index."""

    def __init__(self, sources: list[list[int]], targets: list[list[int]]) -> None:
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == FILLER:
            return {"source": self.sources[0], "target": [IGNORED_LABEL], READ: FILLER}
        return {"source": self.sources[index], "target": self.targets[index], READ: index}


class WithIndices:
    """A collator whose batches say which examples are in them: workers that read ahead could not tell otherwise."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.collate(rows), READ: [row[READ] for row in rows if row[READ] != FILLER]}


class ShuffledSampler(Sampler):
    """A fresh order each epoch that depends on seed and epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, lengths: list[int], batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths, self.batch_size, self.group_by_length, self.seed = lengths, batch_size, group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.group_by_length:
            return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))
        return iter(torch.randperm(len(self.lengths), generator=generator).tolist())


class SharedBatches(Sampler[list[int]]):
    """The batches of one of several processes, which share each `together` examples of `order` evenly.

    accelerate's own sharding repeats examples until every process has a full last batch. Here the last ones are shared
    like all others; a process that none is left for gets a filler, which takes part in the collectives and adds
    nothing to the loss.
    """

    def __init__(self, order: ShuffledSampler, together: int, processes: int, process: int) -> None:
        self.order, self.together, self.processes, self.process = order, together, processes, process

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.together)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for start in range(0, len(order), self.together):
            shared = order[start : start + self.together]
            first, last = (len(shared) * process // self.processes for process in (self.process, self.process + 1))
            yield shared[first:last] or [FILLER]


def cut(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """A batch as `parts` batches of about as many rows, in order; fewer where it has not as many."""
    rows = len(batch["labels"])
    if parts == 1 or rows == 1:
        return [batch]
    pieces = {name: torch.tensor_split(value, min(parts, rows)) for name, value in batch.items()}
    return [{name: values[at] for name, values in pieces.items()} for at in range(min(parts, rows))]


class EpochLoader(DataLoader):
    """Tells the epoch to its batch sampler. Not prepared by accelerate, which would share the batches once more."""

    batch_sampler: SharedBatches

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.batch_sampler.set_epoch(epoch)
