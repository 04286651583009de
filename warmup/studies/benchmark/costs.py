"""What a step costs: counted operations on meta tensors; seconds and memory on this machine."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from tqdm import tqdm
from transformers import PretrainedConfig

from warmup.models.backbone import Backbone
from warmup.models.modes import evaluation_mode
from warmup.studies.benchmark.models import random_backbone
from warmup.studies.benchmark.steps import updates, ways
from warmup.studies.benchmark.without_values import ZerosInMainMemory
from warmup.studies.benchmark.workloads import Shape, Workload


def _added_product(_: object, left: torch.Size, right: torch.Size, **__: object) -> int:
    return 2 * left[0] * left[1] * right[1]


# torch counts addmm, but not the form that adds in place, with which the output layer sums its weight's gradient
IN_PLACE = {torch.ops.aten.addmm_: _added_product}


def operations(step: Callable[[], None]) -> int:
    """Matrix-product operations of a step: one multiplication and one addition are two."""
    with ZerosInMainMemory(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        step()
    return counter.get_total_flops()


def count_operations(config: PretrainedConfig, shape: Shape, samples: list[int]) -> dict[str, int]:
    """Operations of a step by each way, on meta tensors: no weights are made, however large the model."""
    backbone = random_backbone(config, "meta")
    counted = {way.label: operations(way.step) for way in ways(backbone, shape, samples, with_naive=False)}
    for count in samples:
        counted[f"naive K={count}"] = operations(partial(_naive_step, backbone, shape, shape.batch * count))
    return counted


class _BesideProducts(TorchDispatchMode):
    """Counts calls that are neither matrix products nor mere views, and the elements that they write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        aliases = [part.alias_info for part in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        if not is_view and func.overloadpacket not in {*flop_registry, *IN_PLACE}:
            self.calls += 1
            self.elements += sum(part.numel() for part in tree_leaves(found) if isinstance(part, Tensor))
        return found


def elementwise(step: Callable[[], None]) -> tuple[int, int]:
    """Calls of a step beside its matrix products, and the elements that they write."""
    with ZerosInMainMemory(), _BesideProducts() as counter:
        step()
    return counter.calls, counter.elements


def count_elementwise(config: PretrainedConfig, shape: Shape, samples: list[int]) -> dict[str, dict[str, int]]:
    """What `elementwise` tells of a step by each way but the naive one, on meta tensors: `calls` and `elements`."""
    found = ways(random_backbone(config, "meta"), shape, samples, with_naive=False)
    counted = {way.label: elementwise(way.step) for way in found}
    return {part: {name: pair[i] for name, pair in counted.items()} for i, part in enumerate(("calls", "elements"))}


def _naive_step(backbone: Backbone, shape: Shape, rows: int) -> None:
    """The naive step in its parts, since `generate` reads values: `rows` are the sources, repeated."""
    model, family = backbone.model, backbone.family
    ids = torch.zeros(rows, shape.source, dtype=torch.long, device="meta")
    mask = torch.ones_like(ids)
    with torch.no_grad(), evaluation_mode(model.modules()):
        logits, state = family.prefill(model, family.encode(model, ids, mask), 1, shape.warmup)
        for _ in range(shape.warmup - 1):
            logits = family.step(model, state, logits.argmax(-1))
    length = shape.warmup + 1 + shape.target
    written = torch.zeros(rows, 1, length, dtype=torch.long, device="meta")
    encoded = family.encode(model, ids, mask, shared=False)
    states = family.hidden(model, encoded, written, torch.ones_like(written))
    family.logits(model, states).log_softmax(-1).sum().backward()


def measure(config: PretrainedConfig, work: Workload, device: str, repeats: int) -> dict[str, Any]:
    """Median seconds, tokens per second and peak bytes of a step by each way; on CPU seconds of the processor too."""
    backbone = random_backbone(config, device, dropout=work.as_trained)
    update = updates(backbone.model) if work.as_trained else None
    mixed = work.precision == "bfloat16"
    found = ways(backbone, work.shape, work.samples, with_naive=True, mixed=mixed, update=update)
    seconds: dict[str, list[float]] = {way.label: [] for way in found}
    busy: dict[str, list[float]] = {way.label: [] for way in found}
    peaks = {way.label: _peak(way.step, device) for way in found}  # the first, untimed run
    for _ in tqdm(range(repeats), desc=f"{config.model_type} on {device}", unit="round", leave=False):
        for way in found:
            started, worked = time.perf_counter(), time.process_time()
            way.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[way.label].append(time.perf_counter() - started)
            busy[way.label].append(time.process_time() - worked)
    tokens = work.shape.batch * (work.shape.source + work.shape.target)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    processor = {name: statistics.median(values) for name, values in busy.items()}
    return {
        "seconds": medians,
        **({"cpu_seconds": processor} if device == "cpu" else {}),
        "tokens_per_second": {name: tokens / value for name, value in medians.items()},
        "peak_bytes": peaks,
    }


def _peak(step: Callable[[], None], device: str) -> int | None:
    """Bytes in use at the peak of a step beyond those before it; None where the machine does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or what earlier steps freed would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # Linux: begin the high-water mark anew
        before = _status("VmRSS")
    except (OSError, AttributeError):  # not Linux, or not glibc
        step()
        return None
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """Bytes that Linux tells of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
