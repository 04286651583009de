"""Dropout while warmups are sampled, scored and weighed, in step with gradient checkpointing.

Noise that differs between an input's K warmups would be mistaken for a difference between the warmups, so the part of
the model that reads them draws one dropout mask for all K, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def evaluation_mode(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Each of `parts` (not its children) as after `.eval()`, and as before afterwards."""
    changed = [part for part in parts if part.training]
    for part in changed:
        part.training = False
    try:
        yield
    finally:
        for part in changed:
            part.training = True


LORA_DROPOUT = ".lora_dropout."  # in the names of PEFT's modules
RATES = ("dropout", "activation_dropout", "layerdrop")  # of blocks that drop out themselves, BART's


@contextmanager
def dropout_off(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for everything in `module` but the switches of gradient checkpointing.

    Hugging Face blocks recompute activations only where `training` is set, so those flags are left alone; dropout
    lives in the layers inside them, in attention modules that read their own flag, or in rates, which are 0 meanwhile.
    """
    switches = [part for part in module.modules() if isinstance(part, (GradientCheckpointingLayer, PreTrainedModel))]
    rates = [(part, name, getattr(part, name, None)) for part in switches for name in RATES]
    found = [(part, name, rate) for part, name, rate in rates if isinstance(rate, float)]
    for part, name, _ in found:
        setattr(part, name, 0.0)
    try:
        with evaluation_mode(set(module.modules()) - set(switches)):
            yield
    finally:
        for part, name, rate in found:
            setattr(part, name, rate)


@dataclass
class SharedDropout:
    """One dropout mask for all continuations of an input, wherever `module` drops out activations.

    Attention weights are not dropped, nor is anything that a block drops without a module for it (BART), nor what an
    adapter of LoRA reads: that may be a source inside of `module`, whose rows are of another length. The masks
    [B, 1, longest, width] are drawn when first needed and kept, so that rows read later, and activations recomputed in
    the backward pass, meet the same ones.
    """

    module: nn.Module
    batch: int
    longest: int  # tokens of a continuation, at most
    masks: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    @contextmanager
    def rows(self, length: int, inputs: Tensor) -> Iterator[None]:
        """While rows [B', count * length, width] pass through the module: continuations of some `inputs` [B']."""
        global _recompute
        hooks, before = [], _recompute
        passing = _Pass(self, length, inputs)
        for name, part in self.module.named_modules():
            if isinstance(part, nn.Dropout) and part.training and part.p and LORA_DROPOUT not in name:
                hooks.append(part.register_forward_hook(partial(passing.drop, name)))
        _recompute = partial(self.rows, length, inputs)
        try:
            with dropout_off(self.module):
                yield
        finally:
            _recompute = before
            for hook in hooks:
                hook.remove()


@dataclass
class _Pass:
    """One pass of rows through the module."""

    dropout: SharedDropout
    length: int
    inputs: Tensor  # [B']
    calls: dict[str, int] = field(default_factory=dict)  # of each part so far, by its name

    def drop(self, name: str, part: nn.Dropout, _: object, output: Tensor) -> Tensor:
        """A forward hook: `output` with the masks of its inputs."""
        call = self.calls[name] = self.calls.get(name, -1) + 1
        masks = self.dropout.masks
        if (name, call) not in masks:
            shape = (self.dropout.batch, 1, self.dropout.longest, output.shape[-1])
            masks[name, call] = torch.bernoulli(torch.full(shape, 1 - part.p, device=output.device)).bool()
        mask = masks[name, call][self.inputs, :, : self.length]
        blocks = output.view(output.shape[0], -1, self.length, output.shape[-1])
        return (blocks * mask / (1 - part.p)).view(output.shape)


_recompute: Callable[[], AbstractContextManager[None]] | None = None  # makes the mode that is on now once more


def checkpoint_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of `torch.utils.checkpoint`: recomputation happens in the mode that the first pass was in."""
    return nullcontext(), nullcontext() if _recompute is None else _recompute()
