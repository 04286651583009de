"""Training on a stream: one window of examples at a time is encoded, and shuffled within itself."""

from __future__ import annotations

import math
import os
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
    from the beginning, and a resumed training reads the stream up to its place. So does each worker that loads batches.
    """

    def __init__(self, stream: ExampleStream, reader: TextReader, limits: Limits, count: int) -> None:
        super().__init__([], [])
        self.stream, self.reader, self.limits, self.count = stream, reader, limits, count
        self.window = SMALLEST_WINDOW
        self.held = range(0)
        self._rest: Iterator[Example] = iter(())
        self._process = 0  # that reads it: one that was forked has the same files at the same place

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        return f"{self.count:,} examples of a stream"

    def pair(self, index: int) -> tuple[list[int], list[int]]:
        """Source and target of one example; reads on to its window."""
        start = index - index % self.window
        place = index - self.hold(start).start
        return self.sources[place], self.targets[place]

    @property
    def tokens(self) -> int | None:
        """Not known before they are read."""
        return None

    def order(self, step: int, group_by_length: bool, seed: int) -> Order:
        """Shuffled in windows, each by seed and place alone."""
        self.window = math.ceil(SMALLEST_WINDOW / step) * step
        return _WindowOrder(self, step, group_by_length, seed)

    def hold(self, start: int) -> range:
        """The indices of the window that begins at `start`, once it is read."""
        if self._process == os.getpid() and self.held and self.held.start == start:
            return self.held
        if self._process != os.getpid() or start < self.held.stop:
            self._process, self.held, self._rest = os.getpid(), range(0), self.stream.endless()
        deque(islice(self._rest, start - self.held.stop), maxlen=0)
        examples = list(islice(self._rest, min(self.window, self.count - start)))
        sources = [self.reader.source(example, self.limits.source) for example in examples]
        targets = [self.reader.target(example, self.limits.target) for example in examples]
        if start == 0:
            said = len(examples), "of the first training"
            warn_cut_sources(sum(cut for _, cut in sources), *said, self.limits.source)
            warn_cut_targets(sum(cut for _, cut in targets), *said, self.limits.target)
        self.sources, self.targets = [ids for ids, _ in sources], [ids for ids, _ in targets]
        self.held = range(start, start + len(examples))
        return self.held


class _WindowOrder(Order):
    def __init__(self, data: EncodedStream, step: int, group_by_length: bool, seed: int) -> None:
        self.data, self.step, self.group_by_length, self.seed = data, step, group_by_length, seed

    def __len__(self) -> int:
        return len(self.data)

    def windows(self) -> Iterator[np.ndarray]:
        """The indices of one window after the other."""
        for number, start in enumerate(range(0, len(self), self.data.window)):
            held = self.data.hold(start)
            lengths = self.data.lengths if self.group_by_length else None
            yield start + shuffled(len(held), self.seed * 1_000_003 + number, lengths, self.step)
