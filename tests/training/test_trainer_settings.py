"""Every value of `trainer.*` does what it says: training equals a loop written out here, from the formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Adafactor, set_seed

from tests.training.tiny_fit import SFT, WARMUP, copy_task, train
from warmup.models.encoding import Collator
from warmup.training.batches import FILLER, SharedBatches, ShuffledSampler

RATE, STEPS, RISE = 2e-3, 5, 2
EVALUATED_ONCE: dict[str, Any] = {"max_steps": STEPS, "evaluate_every": STEPS, "score": lambda: 1.0}
# the learning rate of each step, as a share of the largest one; the first step of a rise from 0 has none
SCHEDULES: dict[str, Callable[[int], float]] = {
    "linear": lambda step: step / RISE if step < RISE else (STEPS - step) / (STEPS - RISE),
    "cosine": lambda step: (
        step / RISE if step < RISE else 0.5 * (1 + math.cos(math.pi * (step - RISE) / (STEPS - RISE)))
    ),
    "constant": lambda step: 1.0,
    "constant_with_warmup": lambda step: min(1.0, step / RISE),
    "inverse_sqrt": lambda step: step / RISE if step < RISE else (RISE / step) ** 0.5,
}


def by_hand(
    make_backbone,
    batches: list[list[int]],
    rates: list[float],
    weight_decay: float = 0.0,
    clip: float = 1.0,
    adafactor: bool = False,
    count: int = 24,
) -> dict[str, torch.Tensor]:
    """The weights behind a step on each of `batches`: the mean over its target tokens, by Hugging Face's own loss."""
    set_seed(1)
    backbone = make_backbone("t5")
    model, data = backbone.model.train(), copy_task(backbone, count)
    decayed = [p for name, p in model.named_parameters() if "norm" not in name and "bias" not in name]
    others = [p for name, p in model.named_parameters() if "norm" in name or "bias" in name]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer = (
        Adafactor(groups, lr=RATE, scale_parameter=False, relative_step=False)
        if adafactor
        else torch.optim.AdamW(groups, lr=RATE)
    )
    for batch, rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        model(**Collator(backbone)([data[index] for index in batch])).loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if clip and norm > clip:
            for gradient in gradients:
                gradient.mul_(clip / norm)
        optimizer.step()
    return model.state_dict()


def assert_trained_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=0.01 * RATE, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_and_the_rise_before_it(make_backbone, tmp_path: Path, schedule: str) -> None:
    settings = {
        **EVALUATED_ONCE,
        "schedule": schedule,
        "lr_warmup_steps": RISE,
        "learning_rate": RATE,
        "batch_size": 24,
    }
    backbone, result = train(make_backbone, tmp_path, SFT, **settings)
    rates = [RATE * SCHEDULES[schedule](step) for step in range(STEPS)]
    logged = [entry["learning_rate"] for entry in result.history if "learning_rate" in entry]
    assert logged == pytest.approx(rates)
    everything = list(range(24))
    assert_trained_alike(backbone.model.state_dict(), by_hand(make_backbone, STEPS * [everything], rates))


@pytest.mark.parametrize(
    ("settings", "hand"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.5}, {"weight_decay": 0.5}),
        ({"optimizer": "adafactor", "weight_decay": 0.5}, {"weight_decay": 0.5, "adafactor": True}),
        ({"optimizer": "adafactor", "max_grad_norm": 0.01}, {"clip": 0.01, "adafactor": True}),
        ({"optimizer": "adafactor", "max_grad_norm": 0.0}, {"clip": 0.0, "adafactor": True}),
        # a small enough gradient is felt by AdamW too: 1e-8 is added to its size
        ({"max_grad_norm": 1e-7}, {"clip": 1e-7}),
    ],
    ids=["adamw", "adafactor", "adafactor-clipped", "adafactor-unclipped", "adamw-clipped"],
)
def test_optimizer_decay_and_clipping(make_backbone, tmp_path: Path, settings: dict, hand: dict) -> None:
    shape = {**EVALUATED_ONCE, "schedule": "constant", "learning_rate": RATE, "batch_size": 24}
    backbone, _ = train(make_backbone, tmp_path, SFT, **shape, **settings)
    found = backbone.model.state_dict()
    assert_trained_alike(found, by_hand(make_backbone, STEPS * [list(range(24))], STEPS * [RATE], **hand))


@pytest.mark.parametrize(("epochs", "steps"), [(2, 4), (1.5, 3)])
def test_an_epoch_is_every_example_once_and_its_last_batch_what_is_left(
    make_backbone, tmp_path: Path, epochs: float, steps: int
) -> None:
    """19 examples at 4 times 3 a step: 12 and 7, and of these 4 and 3."""
    shape = {"batch_size": 4, "gradient_accumulation_steps": 3, "learning_rate": RATE, "schedule": "constant"}
    settings = {
        "max_steps": -1,
        "epochs": epochs,
        "evaluate_by": "epoch",
        "score": lambda: 1.0,
        "early_stopping_patience": 0,
    }
    scores = iter(range(10))
    settings["score"] = lambda: float(next(scores))  # the last one is the best
    backbone, result = train(make_backbone, tmp_path, SFT, count=19, **shape, **settings)
    assert result.steps == steps
    lengths = [len(row["source"]) + len(row["target"]) for row in map(copy_task(backbone, 19).__getitem__, range(19))]
    sampler, batches = ShuffledSampler(lengths, 12, True, 1), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        batches += [order[:12], order[12:]]
    expected = by_hand(make_backbone, batches[:steps], steps * [RATE], count=19)
    assert_trained_alike(backbone.model.state_dict(), expected)


@pytest.mark.parametrize("together", [4, 12, 100])
@pytest.mark.parametrize("count", [1, 19, 24, 25])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_each_batch_without_repeats(processes: int, count: int, together: int) -> None:
    order = ShuffledSampler([1 + index % 5 for index in range(count)], 12, True, 3)
    order.set_epoch(2)
    whole = [list(order)[start : start + together] for start in range(0, count, together)]
    shares = [SharedBatches(order, together, processes, process) for process in range(processes)]
    assert [len(share) for share in shares] == processes * [len(whole)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [index for part in parts for index in part if index != FILLER] == batch
        sizes = [sum(index != FILLER for index in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert all(part == [FILLER] or FILLER not in part for part in parts)


def losses(result) -> list[float]:
    return [entry["target_nll"] for entry in result.history if "target_nll" in entry]


def test_warmups_change_with_the_step_and_the_seed(make_backbone, tmp_path: Path) -> None:
    """One example, and weights that do not move: what changes is what was drawn."""
    still = {"count": 1, "batch_size": 1, "learning_rate": 1e-9, "max_steps": 6, "evaluate_every": 6}
    found = [
        losses(train(make_backbone, tmp_path / str(number), WARMUP, seed=seed, **still)[1])
        for number, seed in enumerate([1, 2, 1])
    ]
    assert found[0] == found[2]
    for one, other in [*zip(found[0], found[0][1:], strict=False), *zip(found[0], found[1], strict=True)]:
        assert abs(one - other) > 1e-3
    plain = losses(train(make_backbone, tmp_path / "sft", SFT, **still)[1])
    assert max(plain) - min(plain) < 1e-4


@pytest.mark.parametrize("group_by_length", [True, False])
def test_the_order_of_examples_changes_with_the_seed_and_the_epoch(
    make_backbone, tmp_path: Path, group_by_length: bool
) -> None:
    """Weights that do not move: a step's loss tells its examples. 3 steps of 8 are an epoch."""
    still = {"batch_size": 8, "learning_rate": 1e-9, "max_steps": 6, "evaluate_every": 6}
    found = [
        losses(
            train(make_backbone, tmp_path / str(number), SFT, seed=seed, group_by_length=group_by_length, **still)[1]
        )
        for number, seed in enumerate([1, 2, 1])
    ]
    assert found[0] == found[2]
    for one, other in [(found[0][:3], found[1][:3]), (found[0][:3], found[0][3:])]:
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-3
    assert all(sum(run[:3]) == pytest.approx(sum(run[3:]), abs=1e-3) for run in found)  # all of them, once an epoch
