"""Training steps to be compared: plain fine-tuning, ours, and the naive computation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.errors import UserError
from warmup.methods.noise import Noise
from warmup.methods.scoring import read_targets, weigh_read
from warmup.methods.warmup import draw_warmups, warmup_step
from warmup.models.backbone import Backbone
from warmup.models.families import Model
from warmup.models.modes import evaluation_mode
from warmup.studies.bare_backbone import SEPARATOR_ID
from warmup.studies.benchmark.without_values import longest_warmups
from warmup.studies.benchmark.workloads import Shape
from warmup.studies.naive import naive_loss, naive_sample, naive_scores


@dataclass(frozen=True)
class Way:
    """One way to make a training step."""

    name: str
    samples: int  # K; 0 for SFT
    step: Callable[[], None]

    @property
    def label(self) -> str:
        """`SFT`, or the name and K."""
        return f"{self.name} K={self.samples}" if self.samples else self.name


@dataclass(frozen=True)
class RandomBatch:
    """A batch of random tokens for a model, and the step that plain fine-tuning, ours or the naive computation makes.

    Attributes:
        ids: [B, S] the sources.
        mask: [B, S] all ones.
        labels: [B, T] the targets.
        numbers: of the steps, so that each draws other warmups.
    """

    backbone: Backbone
    shape: Shape
    ids: Tensor
    mask: Tensor
    labels: Tensor
    numbers: Iterator[int]

    @classmethod
    def of(cls, backbone: Backbone, shape: Shape) -> RandomBatch:
        """Every source, target and warmup of the full length."""
        device = next(backbone.model.parameters()).device
        words = backbone.family.output_weight(backbone.model).shape[0]
        ids = torch.randint(SEPARATOR_ID + 1, words, (shape.batch, shape.source), device=device)
        labels = torch.randint(SEPARATOR_ID + 1, words, (shape.batch, shape.target))
        labels = labels if device.type == "meta" else labels.to(device)
        mask = torch.ones(shape.batch, shape.source, dtype=torch.long, device=device)
        return cls(backbone, shape, ids, mask, labels, itertools.count(1))

    def loss_of_sft(self) -> Tensor:
        """Of plain fine-tuning."""
        encoded = self.backbone.family.encode(self.backbone.model, self.ids, self.mask, shared=False)
        read = read_targets(self.backbone, encoded, self.labels)
        return weigh_read(self.backbone, read, lambda totals, _: -totals.target_logprob.sum(-1))[0]

    def loss_of_warmup(self, objective: str, samples: int) -> Tensor:
        """Of ours."""
        method = WarmupMethod(num_samples=samples, max_warmup_tokens=self.shape.warmup, objective=objective)
        encoded = self.backbone.family.encode(self.backbone.model, self.ids, self.mask)
        seeds = torch.arange(self.shape.batch, device=self.ids.device) + 1_000 * next(self.numbers)
        draw = longest_warmups if self.ids.is_meta else draw_warmups
        return warmup_step(self.backbone, method, encoded, self.labels, Noise(seeds), draw).loss

    def loss_of_naive(self, samples: int) -> Tensor:
        """Of the naive computation, by the `marginal` objective; needs a device that holds values."""
        with evaluation_mode(self.backbone.model.modules()):
            warmups = naive_sample(self.backbone, self.ids, self.mask, samples, self.shape.warmup)
        scores = naive_scores(self.backbone, self.ids, self.mask, warmups, self.labels)
        return naive_loss(scores, warmups, "marginal", "mean", 1.0, 0.001)


def ways(
    backbone: Backbone,
    shape: Shape,
    samples: list[int],
    with_naive: bool,
    mixed: bool = False,
    update: Callable[[], None] | None = None,
) -> list[Way]:
    """SFT, ours with each K, `resample`, and the naive computation; on random tokens.

    `mixed`: under bfloat16 autocast. `with_naive` needs a device that holds values. `update` comes after each backward
    pass; without one a step is forward and backward alone.

    Raises:
        UserError: the model has fewer positions than a sequence of the shape has tokens.
    """
    most, longest = backbone.family.most_positions(backbone.model), max(shape.source, shape.warmup + 1 + shape.target)
    if most is not None and longest > most:
        raise UserError(f"the model has {most} positions, and the shape {shape} a sequence of {longest} tokens")
    batch = RandomBatch.of(backbone, shape)
    step = partial(_step, backbone.model, batch.ids.device.type if mixed else None, update)
    found = [Way("SFT", 0, partial(step, batch.loss_of_sft))]
    for count in samples:
        if with_naive:
            found.append(Way("naive", count, partial(step, partial(batch.loss_of_naive, count))))
        for objective in ("marginal", "resample"):
            found.append(Way(objective, count, partial(step, partial(batch.loss_of_warmup, objective, count))))
    return found


def updates(model: Model) -> Callable[[], None]:
    """What makes the rest of a training step: clipping, and AdamW, whose averages are there from the start.

    The learning rate is 0, so that every way reads the same weights in every round.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for part in model.parameters():
        part.grad = torch.zeros_like(part)
    update()
    model.zero_grad(set_to_none=True)
    return update


def _step(model: Model, autocast_on: str | None, update: Callable[[], None] | None, loss: Callable[[], Tensor]) -> None:
    """Forward, backward and update; under bfloat16 autocast where a kind of device is named."""
    with torch.autocast(autocast_on, torch.bfloat16) if autocast_on else nullcontext():
        value = loss()
    value.backward()
    if update is not None:
        update()
    model.zero_grad(set_to_none=True)
