"""What stands for values in a step on meta tensors, which have none: its operations alone are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.sampling import Warmups, even_weights
from warmup.methods.warmup import draw_warmups
from warmup.models.backbone import Backbone
from warmup.models.families import Encoded


class ZerosInMainMemory(TorchFunctionMode):
    """Copies of meta tensors in main memory are zeros."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What every call of torch goes through."""
        if func is Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


def longest_warmups(backbone: Backbone, method: WarmupMethod, encoded: Encoded, noise: Noise) -> Warmups:
    """Warmups as long as can be, and all different, after the operations of drawing some."""
    draw_warmups(backbone, method, encoded, noise)
    batch, count, limit = len(encoded.ids), method.num_samples, method.max_warmup_tokens
    tokens = torch.arange(2, 2 + count)[None, :, None].expand(batch, count, limit)
    lengths = torch.full((batch, count), limit)
    return Warmups(tokens, lengths, torch.ones_like(lengths, dtype=torch.bool), even_weights(batch, count))
