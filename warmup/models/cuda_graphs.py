"""Loops of many small kernels as CUDA graphs: recorded once per shape, then launched whole.

Decoding token by token launches thousands of kernels that each take less time than Python needs to ask for them. A
graph holds them all, with fixed addresses: what goes in is copied to where the recording read it, the weights are where
they were, and nothing in between may depend on a value that Python would have to look at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from warmup.errors import first_line
from warmup.models.families import Model, in_one_piece

Loop = Callable[..., tuple[Tensor, ...]]  # of tensors alone; whatever else it needs is bound to it
MOST_RECORDED = 32  # shapes; the oldest goes first
log = logging.getLogger(__name__)


class Recording(Protocol):
    """A loop with fixed shapes."""

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the loop returns for `inputs`, which have the recorded shapes and types."""


class CudaGraph:
    """A loop as one CUDA graph, with the weights as they are at each replay.

    Raises:
        RuntimeError: the loop does something that a graph cannot hold.
    """

    device = "cuda"

    def __init__(self, loop: Loop, inputs: tuple[Tensor, ...], pool: Any) -> None:
        self._inputs = tuple(part.clone() for part in inputs)
        self._graph = torch.cuda.CUDAGraph()
        torch.clear_autocast_cache()  # the graph must narrow the weights itself, each time anew
        try:
            # other threads, the data loader's and NCCL's watchdog among them, may go on with their own calls
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._outputs = loop(*self._inputs)
        finally:
            torch.clear_autocast_cache()  # narrowed weights in the graph's memory are not for others

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return tuple(part.clone() for part in self._outputs)

    @staticmethod
    def new_pool() -> Any:
        """Memory that all recordings share: they never run at the same time."""
        return torch.cuda.graph_pool_handle()


class Recordings:
    """The recorded loops of one model. The first error turns recording off, and loops then run as they are."""

    def __init__(self, kind: Any = CudaGraph) -> None:
        self.kind = kind
        self._known: dict[Hashable, Recording] = {}
        self._pool: Any = None
        self._off = False

    def records(self, model: Model, device: torch.device) -> bool:
        """Whether loops of the model on this device are recorded: its weights must stay where they are, whole."""
        if self._off or device.type != self.kind.device:
            return False
        return in_one_piece(model) and all(part.device == device for part in model.parameters())

    def run(self, model: Model, loop: Loop, inputs: tuple[Tensor, ...], name: Hashable) -> tuple[Tensor, ...]:
        """`loop(*inputs)` where `records`: recorded when first seen with such inputs, and replayed from then on.

        `name` tells apart loops that do different things with inputs of the same shape.
        """
        device = inputs[0].device
        narrow = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        shapes = tuple((part.shape, part.dtype) for part in inputs)
        key = (name, shapes, narrow, tuple(part.data_ptr() for part in model.parameters()))
        if key in self._known:
            return self._known[key].replay(inputs)
        expected = loop(*inputs)  # also loads the kernels, which cannot happen while they are being recorded
        try:
            self._record(key, loop, inputs, expected)
        except (RuntimeError, NotImplementedError) as error:
            self._known.clear()
            self._off = True
            log.warning(
                "warmups are drawn token by token, which is slower: their sampling cannot be made a CUDA graph (%s)",
                first_line(error),
            )
        return expected

    def _record(self, key: Hashable, loop: Loop, inputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
        if self._pool is None:
            self._pool = self.kind.new_pool()
        if len(self._known) == MOST_RECORDED:
            del self._known[next(iter(self._known))]
        found = self.kind(loop, inputs, self._pool)
        pairs = zip(found.replay(inputs), expected, strict=True)
        if not all(torch.equal(one, other) for one, other in pairs if not one.is_floating_point()):
            raise RuntimeError("the graph draws other warmups than the plain loop")
        self._known[key] = found
