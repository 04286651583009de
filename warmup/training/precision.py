"""The numbers that a training computes in; its weights and its optimiser are float32 either way."""

from __future__ import annotations

import torch


def precision_on(device: str, asked: str) -> str:
    """`float32` or `bfloat16` (mixed, by autocast): as `asked`, or with `auto` bfloat16 on a GPU that has it.

    `device`: `cpu` or `cuda`.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
