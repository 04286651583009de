"""What a run was made with: versions, commit, device. No environment variable is recorded, since some hold tokens."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from warmup.metrics.registry import METRICS
from warmup.runs.records import Environment
from warmup.training.processes import number_of_processes

PACKAGES = [
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "hydra-core",
    "omegaconf",
    *dict.fromkeys(metric.package for metric in METRICS.values() if metric.package),
    "numpy",
    "wandb",
]


def describe_environment(device: str, precision: str | None = None) -> Environment:
    """Versions of the packages, the code's commit, the machine; `device` is "cpu" or "cuda"."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        precision=precision,
        processor=_processor(),
        threads=torch.get_num_threads(),
        processes=number_of_processes(),
        git_commit=_git_commit(),
        packages={name: _version(name) for name in PACKAGES},
    )


def _processor() -> str | None:
    """The CPU's name, where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit, with `+changes` where the working tree differs from it; None outside a clone."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes.stdout.strip() else "")
