"""What each optimiser step learns from: the same examples in the same order however many processes share them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from warmup.models.encoding import IGNORED_LABEL
from warmup.models.stored_tokens import TokenRows

FILLER = -1  # the index that stands for no example
READ = "examples"  # of a batch: the indices of what is in it


class Order(ABC, Sampler[int]):
    """The order in which the examples of an epoch are learnt from."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        for window in self.windows():
            yield from window.tolist()

    def set_epoch(self, epoch: int) -> None:  # noqa: B027 - not every order has epochs
        """Called at the start of each epoch."""

    @abstractmethod
    def windows(self) -> Iterator[np.ndarray]:
        """Indices, some or all at a time; all but the last are those of whole optimiser steps."""


class EncodedExamples(Dataset):
    """Token ids of sources and targets, made once before training, each with its index."""

    def __init__(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> None:
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __str__(self) -> str:
        return f"{len(self):,} examples"

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == FILLER:
            return {"source": self.pair(0)[0], "target": [IGNORED_LABEL], READ: FILLER}
        source, target = self.pair(index)
        return {"source": source, "target": target, READ: index}

    def pair(self, index: int) -> tuple[list[int], list[int]]:
        """Source and target of one example."""
        return self.sources[index], self.targets[index]

    @property
    def lengths(self) -> np.ndarray:
        """[n] tokens of source and target together."""
        return row_lengths(self.sources) + row_lengths(self.targets)

    @property
    def tokens(self) -> int | None:
        """Those of sources and targets in an epoch; None where that is not known."""
        return int(self.lengths.sum())

    def order(self, step: int, group_by_length: bool, seed: int) -> Order:
        """Another one for each epoch; optimiser steps take `step` examples each."""
        return ShuffledSampler(self.lengths, step, group_by_length, seed)


class WithIndices:
    """A collator whose batches say which examples are in them: workers that read ahead could not tell otherwise."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.collate(rows), READ: [row[READ] for row in rows if row[READ] != FILLER]}


class ShuffledSampler(Order):
    """A fresh order each epoch that depends on seed and epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, lengths: ArrayLike, batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.group_by_length, self.seed = batch_size, group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def windows(self) -> Iterator[np.ndarray]:
        """All at once, as an array: Python numbers of many examples would fill the memory."""
        lengths = self.lengths if self.group_by_length else None
        yield shuffled(len(self), self.seed * 1_000_003 + self.epoch, lengths, self.batch_size)


def shuffled(count: int, seed: int, lengths: np.ndarray | None, batch_size: int) -> np.ndarray:
    """[count] indices at random by `seed`, grouped by `lengths` where they are given."""
    order: np.ndarray = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    return order if lengths is None else grouped_by_length(order, lengths, batch_size)


def grouped_by_length(random: np.ndarray, lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """[n] the order that `get_length_grouped_indices` of transformers makes of a shuffled one, without Python numbers.

    Up to fifty batches at a time are sorted by length, the longest first. The longest of all is moved to the start, so
    that memory runs out at once if at all.
    """
    size = batch_size * max(1, min(len(lengths) // (batch_size * 4), 50))
    starts = range(0, len(random), size)
    parts = [random[start : start + size] for start in starts]
    order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
    longest = starts[int(np.argmax(lengths[order[::size]]))]
    order[0], order[longest] = order[longest], order[0]
    return order


def row_lengths(rows: Sequence[list[int]]) -> np.ndarray:
    """[n] tokens of each row."""
    return rows.lengths if isinstance(rows, TokenRows) else np.array([len(row) for row in rows], np.int64)


class SharedBatches(Sampler[list[int]]):
    """The batches of one of several processes, which share each `together` examples of `order` evenly.

    accelerate's own sharding repeats examples until every process has a full last batch. Here the last ones are shared
    like all others; a process that none is left for gets a filler, which takes part in the collectives and adds
    nothing to the loss.
    """

    def __init__(self, order: Order, together: int, processes: int, process: int) -> None:
        self.order, self.together, self.processes, self.process = order, together, processes, process

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.together)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for window in self.order.windows():
            for start in range(0, len(window), self.together):
                shared = window[start : start + self.together].tolist()
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
