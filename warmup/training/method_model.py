"""The method's loss as a module, so that Trainer, DDP and FSDP see one forward pass per step."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor, nn

from warmup.config.schema import MethodConfig, WarmupMethod
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import warmup_loss
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.loading import Backbone


class MethodModel(nn.Module):
    """Wraps the model; `forward` returns the loss of the configured method.

    The loss is the sum over examples divided by the number of target tokens of the whole (accumulated, distributed)
    batch, for SFT and warmup alike: both take steps of the same scale at the same learning rate.
    """

    accepts_loss_kwargs = True  # tells the Trainer to pass num_items_in_batch

    def __init__(self, backbone: Backbone, method: MethodConfig) -> None:
        super().__init__()
        self.model = backbone.model
        self.backbone = backbone
        self.method = method
        self.step = 0  # optimiser steps done, set by the Trainer callback
        self.recent: dict[str, list[float]] = defaultdict(list)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> dict[str, Tensor]:
        """Loss of a batch: sources [B, S], labels [B, T] padded with -100.

        `num_items_in_batch` is the number of target tokens that the loss is averaged over; None: of this batch.
        """
        if isinstance(self.method, WarmupMethod) and self.step >= self.method.sft_steps:
            total, gauges = warmup_loss(self.backbone, self.method, input_ids, attention_mask, labels)
        else:
            total, gauges = sft_loss(self.backbone, input_ids, attention_mask, labels)
        for name, value in gauges.items():
            self.recent[name].append(value)
        tokens = (labels != IGNORED_LABEL).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / tokens}

    def take_gauges(self) -> dict[str, float]:
        """Means of the gauges since the last call."""
        means = {name: sum(values) / len(values) for name, values in self.recent.items()}
        self.recent.clear()
        return means
