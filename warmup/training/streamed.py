"""Training on a stream: one window of examples at a time is encoded, and shuffled within itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import islice

import numpy as np

from warmup.data.examples import Example
from warmup.data.streams import ExampleStream
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import TextReader, warn_cut_sources, warn_cut_targets
from warmup.training.batches import EncodedExamples, Order, shuffled

SMALLEST_WINDOW = 10_000  # examples; a window is that or the next whole number of optimiser steps


class EncodedStream(EncodedExamples):
    """The first `count` examples of an endless stream, in windows that are read one behind the other.

    An example's index is its place in the stream. What lies behind the current window is gone: to go back is to read
    from the beginning, and a resumed training reads the stream up to its place.
    """

    def __init__(self, stream: ExampleStream, reader: TextReader, limits: Limits, count: int) -> None:
        super().__init__([], [])
        self.stream, self.reader, self.limits, self.count = stream, reader, limits, count
        self.end = 0  # the index behind the window
        self._rest: Iterator[Example] = iter(())

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        return f"{self.count:,} examples of a stream"

    @property
    def tokens(self) -> int | None:
        """Not known before they are read."""
        return None

    def order(self, step: int, group_by_length: bool, seed: int) -> Order:
        """Shuffled in windows, each by seed and place alone."""
        return _WindowOrder(self, step, group_by_length, seed)

    def hold(self, start: int, size: int) -> None:
        """Make the `size` examples from `start` on the window."""
        if self.end == 0 or start < self.end:
            self._rest, self.end = self.stream.endless(), 0
        deque(islice(self._rest, start - self.end), maxlen=0)
        examples = list(islice(self._rest, size))
        sources = [self.reader.source(example, self.limits.source) for example in examples]
        targets = [self.reader.target(example, self.limits.target) for example in examples]
        if start == 0:
            split = "of the first training"
            warn_cut_sources(sum(cut for _, cut in sources), size, split, self.limits.source)
            warn_cut_targets(sum(cut for _, cut in targets), size, split, self.limits.target)
        self.sources, self.targets = [ids for ids, _ in sources], [ids for ids, _ in targets]
        self.first, self.end = start, start + size


class _WindowOrder(Order):
    def __init__(self, data: EncodedStream, step: int, group_by_length: bool, seed: int) -> None:
        self.data, self.step, self.group_by_length, self.seed = data, step, group_by_length, seed

    def __len__(self) -> int:
        return len(self.data)

    def windows(self) -> Iterator[np.ndarray]:
        """The indices of one window after the other."""
        most = math.ceil(SMALLEST_WINDOW / self.step) * self.step
        for number, start in enumerate(range(0, len(self), most)):
            size = min(most, len(self) - start)
            self.data.hold(start, size)
            lengths = self.data.lengths if self.group_by_length else None
            yield start + shuffled(size, self.seed * 1_000_003 + number, lengths, self.step)
