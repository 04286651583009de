"""How many weights a model has; what a fresh one takes in memory, told before one value of it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import nn
from transformers import PretrainedConfig

from warmup.config.schema import ModelConfig
from warmup.errors import UserError
from warmup.models.families import Family

BYTES_HELD = 8  # a parameter and its gradient in float32, whatever the optimizer
BYTES_WITH_ADAMW = 16  # which keeps two means
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, which sees the whole machine's memory
log = logging.getLogger(__name__)


def check_memory(size: ModelConfig, family: Family, config_of: Callable[[int], PretrainedConfig]) -> None:
    """Say what training the model takes at least; `config_of` gives its configuration with a number of layers.

    Raises:
        UserError: this machine has less.
    """
    one, two = (_parameters(family, config_of(layers)) for layers in (1, 2))
    count = one + (size.layers - 1) * (two - one)
    has = _memory()
    words = f"a fresh {size.architecture} of {count / 1e6:,.1f} million parameters"
    held, with_adamw = _gigabytes(count * BYTES_HELD), _gigabytes(count * BYTES_WITH_ADAMW)
    if count * BYTES_HELD > has:
        raise UserError(
            f"model.width={size.width} with model.layers={size.layers} and model.feed_forward={size.feed_forward} is "
            f"{words}: weights and gradients alone take {held} ({with_adamw} with AdamW), and this machine has "
            f"{_gigabytes(has)}: make it smaller"
        )
    log.info("%s: training it takes at least %s with AdamW", words, with_adamw)


def count_weights(model: nn.Module) -> tuple[int, int]:
    """How many weights a model has, and how many of them are trained."""
    # bitsandbytes keeps two weights in a byte
    sizes = [
        (weight.numel() * (1 + (weight.dtype == torch.uint8)), weight.requires_grad) for weight in model.parameters()
    ]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def _parameters(family: Family, config: PretrainedConfig) -> int:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = family.auto.from_config(config)
    return count_weights(model)[0]


def _memory() -> int:
    """Bytes of the machine or of its GPUs, whichever is more."""
    memory = psutil.virtual_memory().total
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    if limit.isdecimal():
        memory = min(memory, int(limit))
    gpus = [torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count())]
    return max(memory, sum(gpus))


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
