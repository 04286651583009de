"""The benchmark from workloads to figures: operations counted, steps timed, everything written as it comes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from warmup.files import check_writable, write_json
from warmup.runs.environment import describe_environment
from warmup.studies.benchmark.costs import count_elementwise, count_operations, measure
from warmup.studies.benchmark.models import read_config
from warmup.studies.benchmark.workloads import Workload


def measure_workloads(
    workloads: Sequence[Workload], device: str, repeats: int, file: Path, command: Sequence[str]
) -> list[dict[str, Any]]:
    """Count and time each workload, and write the figures of all so far into `file` after each.

    Args:
        workloads: what to measure.
        device: cpu or cuda.
        repeats: timed rounds of all ways.
        file: JSON, with the machine and `command`, the words that asked for this.

    Raises:
        UserError: no such model, or the file cannot be written.
    """
    configs = [read_config(work.model) for work in workloads]
    check_writable(file)
    torch.manual_seed(0)
    results: list[dict[str, Any]] = []
    report = {"command": list(command), "machine": vars(describe_environment(device)), "results": results}
    for work, config in zip(workloads, configs, strict=True):
        result: dict[str, Any] = {"workload": work.name, "model": work.model, "shape": vars(work.shape)}
        result |= {"samples": work.samples, "device": device, "precision": work.precision}
        result["as_trained"] = work.as_trained
        if work.counted:
            result["operations"] = count_operations(config, work.shape, work.samples)
            result["beside_products"] = count_elementwise(config, work.shape, work.samples)
        if work.timed:
            result |= measure(config, work, device, repeats)
        results.append(result)
        write_json(file, report)
        gc.collect()
    return results
