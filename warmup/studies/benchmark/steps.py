"""Training steps to be compared: plain fine-tuning, ours, and the naive computation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.errors import UserError
from warmup.methods.noise import Noise
from warmup.methods.scoring import read_targets, weigh_read
from warmup.methods.warmup import draw_warmups, warmup_step
from warmup.models.loading import Backbone
from warmup.models.modes import evaluation_mode
from warmup.studies.benchmark.models import SEPARATOR
from warmup.studies.benchmark.without_values import longest_warmups
from warmup.studies.benchmark.workloads import Shape
from warmup.studies.naive import naive_loss, naive_sample, naive_scores


@dataclass(frozen=True)
class Way:
    """One way to make a training step: forward and backward, without the optimiser."""

    name: str
    samples: int  # K; 0 for SFT
    step: Callable[[], None]

    @property
    def label(self) -> str:
        """`SFT`, or the name and K."""
        return f"{self.name} K={self.samples}" if self.samples else self.name


def ways(backbone: Backbone, shape: Shape, samples: list[int], with_naive: bool, mixed: bool = False) -> list[Way]:
    """SFT, ours with each K, `resample`, and the naive computation; on random tokens.

    `mixed`: under bfloat16 autocast. `with_naive` needs a device that holds values.

    Raises:
        UserError: the model has fewer positions than a sequence of the shape has tokens.
    """
    most, longest = backbone.family.most_positions(backbone.model), max(shape.source, shape.warmup + 1 + shape.target)
    if most is not None and longest > most:
        raise UserError(f"the model has {most} positions, and the shape {shape} a sequence of {longest} tokens")
    device = next(backbone.model.parameters()).device
    words = backbone.family.output_weight(backbone.model).shape[0]
    ids = torch.randint(SEPARATOR + 1, words, (shape.batch, shape.source), device=device)
    labels = torch.randint(SEPARATOR + 1, words, (shape.batch, shape.target))
    labels = labels if device.type == "meta" else labels.to(device)
    mask = torch.ones(shape.batch, shape.source, dtype=torch.long, device=device)
    numbers = iter(range(1, 1_000_000))

    def run(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            context = torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()
            with context:
                value = loss()
            value.backward()
            backbone.model.zero_grad(set_to_none=True)

        return step

    def sft() -> Tensor:
        encoded = backbone.family.encode(backbone.model, ids, mask, shared=False)
        read = read_targets(backbone, encoded, labels)
        return weigh_read(backbone, read, lambda totals, _: -totals.target_logprob.sum(-1))[0]

    def ours(method: WarmupMethod) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            encoded = backbone.family.encode(backbone.model, ids, mask)
            seeds = torch.arange(shape.batch, device=device) + 1_000 * next(numbers)
            draw = longest_warmups if ids.is_meta else draw_warmups
            return warmup_step(backbone, method, encoded, labels, Noise(seeds), draw).loss

        return loss

    def naive(count: int) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            with evaluation_mode(backbone.model.modules()):
                warmups = naive_sample(backbone, ids, mask, count, shape.warmup)
            scores = naive_scores(backbone, ids, mask, warmups, labels)
            return naive_loss(scores, warmups, "marginal", "mean", 1.0, 0.001)

        return loss

    found = [Way("SFT", 0, run(sft))]
    for count in samples:
        if with_naive:
            found.append(Way("naive", count, run(naive(count))))
        for objective in ("marginal", "resample"):
            method = WarmupMethod(num_samples=count, max_warmup_tokens=shape.warmup, objective=objective)
            found.append(Way(objective, count, run(ours(method))))
    return found
