"""What each optimiser step learns from: the same examples in the same order however many processes share them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from warmup.models.encoding import IGNORED_LABEL
from warmup.models.stored_tokens import TokenRows

FILLER = -1  # the index that stands for no example


class EncodedExamples(Dataset):
    """Token ids of sources and targets, made once before training; `read` grows by the index of each that is read."""

    def __init__(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> None:
        self.sources, self.targets = sources, targets
        self.lengths = row_lengths(sources) + row_lengths(targets)  # [n] tokens of each example
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if index == FILLER:
            return {"source": self.sources[0], "target": [IGNORED_LABEL]}
        self.read.append(index)
        return {"source": self.sources[index], "target": self.targets[index]}


class ShuffledSampler(Sampler):
    """A fresh order each epoch that depends on seed and epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, lengths: np.ndarray, batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths, self.batch_size, self.group_by_length, self.seed = lengths, batch_size, group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def indices(self) -> np.ndarray:
        """[n] the epoch's examples, as an array: Python numbers of many examples would fill the memory."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=generator).numpy()
        return grouped_by_length(shuffled, self.lengths, self.batch_size) if self.group_by_length else shuffled


def grouped_by_length(shuffled: np.ndarray, lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """[n] the order that `get_length_grouped_indices` of transformers makes of a shuffled one, without Python numbers.

    Up to fifty batches at a time are sorted by length, the longest first. The longest of all is moved to the start, so
    that memory runs out at once if at all.
    """
    size = batch_size * max(1, min(len(lengths) // (batch_size * 4), 50))
    starts = range(0, len(shuffled), size)
    parts = [shuffled[start : start + size] for start in starts]
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

    def __init__(self, order: ShuffledSampler, together: int, processes: int, process: int) -> None:
        self.order, self.together, self.processes, self.process = order, together, processes, process

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.together)

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order.indices()
        for start in range(0, len(order), self.together):
            shared = order[start : start + self.together].tolist()
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
