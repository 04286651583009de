"""The method's loss as a module, so that Trainer, DDP and FSDP see one forward pass per step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from warmup.config.schema import MethodConfig, PauseMethod, SftMethod, WarmupMethod
from warmup.methods.noise import input_seeds
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import warmup_loss
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL, Batch
from warmup.training.progress import Progress


class MethodModel(nn.Module):
    """Wraps the model; `forward` returns the loss of the configured method.

    The loss is the sum over examples divided by the number of target tokens of the whole (accumulated, distributed)
    batch, for SFT and warmup alike: both take steps of the same scale at the same learning rate.
    """

    accepts_loss_kwargs = True  # tells the Trainer to pass num_items_in_batch

    def __init__(self, backbone: Backbone, method: MethodConfig, fresh: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.model = backbone.model
        self._no_split_modules = backbone.model._no_split_modules  # where accelerate looks up what FSDP is to wrap
        self.backbone = backbone
        self.method = method
        self.fresh = fresh  # built from a configuration, not pretrained
        self.seed = seed  # of the sampled warmups
        self.measures = False  # whether this step is logged, set by the Trainer callback
        self.step = 0  # optimiser steps done, set by the Trainer callback
        self.total_steps = 0
        self.progress = Progress()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> dict[str, Tensor]:
        """Loss of a batch: sources [B, S], labels [B, T] padded with -100.

        `num_items_in_batch` is the number of target tokens that the loss is averaged over; None: of this batch. Labels
        without a target token are a filler's: it is computed like any other batch, since other processes wait for the
        same collectives, and adds nothing.
        """
        tokens = (labels != IGNORED_LABEL).sum()
        if is_filler := not tokens:
            labels = torch.full_like(labels, self.backbone.tokenizer.eos_token_id)
        batch = Batch(input_ids, attention_mask, labels)
        if isinstance(self.method, WarmupMethod) and self.step >= self.sft_steps(self.method):
            seeds = input_seeds(self.seed, self.step, input_ids, attention_mask, labels)
            total, gauges = warmup_loss(self.backbone, self.method, batch, seeds, self.measures)
        else:
            smoothing = self.method.label_smoothing if isinstance(self.method, SftMethod) else 0.0
            pauses = self.method.num_tokens if isinstance(self.method, PauseMethod) else None
            total, gauges = sft_loss(self.backbone, batch, smoothing, self.backbone.pause_prefix(pauses))
        if is_filler:
            return {"loss": 0.0 * total}
        self.progress.count(gauges)
        return {"loss": total / (tokens if num_items_in_batch is None else num_items_in_batch)}

    def sft_steps(self, method: WarmupMethod) -> int:
        """How many steps of plain SFT come first."""
        if method.sft_steps is not None:
            return method.sft_steps
        return self.total_steps // 2 if self.fresh else 0
