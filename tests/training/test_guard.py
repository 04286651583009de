"""Steps that are not finite are skipped and counted; losses that jump are said; too little memory halves batches."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import tiny_backbone
from tests.training.test_resuming import Killed, KilledIn, timeless
from tests.training.tiny_fit import SFT, WARMUP, train
from warmup.config.schema import MethodConfig
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.training import method_model
from warmup.training.guard import StepGuard
from warmup.training.method_model import MethodModel
from warmup.training.progress import Progress

SHAPE: dict[str, Any] = {"max_steps": 8, "evaluate_every": 4, "logging_steps": 2}


def spoil(monkeypatch, steps: dict[int, Callable[[torch.Tensor], torch.Tensor]]) -> None:
    """Change the loss of some steps, counted from 1."""
    forward = MethodModel.forward

    def spoiled(self: MethodModel, *arguments: Any, **keywords: Any) -> dict[str, torch.Tensor]:
        found = forward(self, *arguments, **keywords)
        return {"loss": steps.get(self.step + 1, lambda loss: loss)(found["loss"])}

    monkeypatch.setattr(MethodModel, "forward", spoiled)


def times(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda loss: loss * factor


def bad_gradient(loss: torch.Tensor) -> torch.Tensor:
    """Finite itself."""
    return loss + (loss - loss.detach()).abs().sqrt()


@pytest.mark.parametrize("how", [times(math.nan), times(math.inf), bad_gradient], ids=["nan", "inf", "gradient"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_step_that_is_not_finite_is_skipped_and_counted(
    make_backbone, tmp_path: Path, monkeypatch, caplog, how: Callable[..., torch.Tensor], max_grad_norm: float
) -> None:
    seen: list[torch.Tensor] = []
    spoil(monkeypatch, {3: how})
    pre_step = StepGuard.on_pre_optimizer_step

    def look(self: StepGuard, args, state, control, model=None, **rest: Any) -> None:
        seen.append(model.model.get_input_embeddings().weight.detach().clone())
        pre_step(self, args, state, control, **rest)

    monkeypatch.setattr(StepGuard, "on_pre_optimizer_step", look)
    backbone, found = train(make_backbone, tmp_path, SFT, max_grad_norm=max_grad_norm, **SHAPE)
    moved = [not torch.equal(one, other) for one, other in zip(seen, seen[1:], strict=False)]
    assert moved == [True, True, False, True, True, True, True]  # step 3 did nothing
    assert all(value.isfinite().all() for value in backbone.model.state_dict().values())
    assert [line for line in caplog.messages if "skipped" in line][0].startswith("step 3 is skipped: loss ")
    counted = [entry.get("skipped_steps") for entry in found.history if "learning_rate" in entry]
    assert counted == [None, None, 1, 1, 1]
    for entry in found.history:
        assert all(math.isfinite(value) for value in entry.values()), entry
    losses = [entry["loss"] for entry in found.history if "loss" in entry]
    assert len(losses) == 5 and max(losses) < 1.5 * losses[0]


def test_a_skipped_step_survives_a_restart(make_backbone, tmp_path: Path, monkeypatch) -> None:
    spoil(monkeypatch, {3: times(math.nan), 4: times(math.nan), 5: times(math.nan)})
    _, whole = train(make_backbone, tmp_path / "whole", WARMUP, **SHAPE)
    with pytest.raises(Killed):
        train(make_backbone, tmp_path / "killed", WARMUP, callbacks=[KilledIn(6)], **SHAPE)
    _, found = train(make_backbone, tmp_path / "killed", WARMUP, **SHAPE, save=True)
    assert timeless(found.history) == timeless(whole.history) and found.history[-1]["step"] == 8
    assert "loss" not in next(entry for entry in found.history if entry["step"] == 4)  # no step since was taken
    assert json.loads((tmp_path / "killed" / "training.json").read_text())["skipped_steps"] == 3


def test_five_in_a_row_end_the_run_with_what_led_there(make_backbone, tmp_path: Path, monkeypatch) -> None:
    spoil(monkeypatch, {step: times(math.inf) for step in range(4, 100)})
    with pytest.raises(UserError, match="5 steps in a row .* up to step 8 .*trainer.learning_rate"):
        train(make_backbone, tmp_path, SFT, **{**SHAPE, "max_steps": 20}, batch_size=3, gradient_accumulation_steps=2)
    steps = json.loads((tmp_path / "skipped_steps.json").read_text())
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert sorted(index for step in steps[:4] for index in step["examples"]) == list(range(24))  # of one epoch
    assert isinstance(steps[0]["loss"], float) and steps[3]["loss"] == "inf"
    assert steps[0]["gradient_norm"] > 0 and steps[3]["gradient_norm"] == "nan"
    assert steps[1]["learning_rate"] == pytest.approx(1e-3 * 19 / 20)


@pytest.mark.parametrize(
    ("losses", "said"),
    [([6, 2, 4182], True), ([6, 2, 13], True), ([6, 2, 7], False), ([4182, 6, 2], False), ([0.1, 0.01, 0.5], False)],
)
def test_a_jump_is_said_once(tmp_path: Path, caplog, losses: list[float], said: bool) -> None:
    guard = StepGuard(Progress(), tmp_path)
    with caplog.at_level(logging.WARNING):
        for step, loss in enumerate([*losses, losses[-1]], 1):
            guard.warn_of_a_jump(float(loss), step)
    assert len(caplog.messages) == said
    if said:
        assert f"the loss is {losses[-1]} at step 3, after 2" in caplog.text


def limit_memory(monkeypatch, rows: int, when: str) -> list[int]:
    """Memory runs out in the forward or in the middle of the backward pass of more than `rows` examples."""
    tried: list[int] = []
    for name in ("sft_loss", "warmup_loss"):
        plain = getattr(method_model, name)

        def limited(backbone: Backbone, *arguments: Any, plain: Any = plain) -> Any:
            batch = next(part for part in arguments if hasattr(part, "labels"))
            tried.append(len(batch.labels))
            if len(batch.labels) <= rows:
                return plain(backbone, *arguments)
            if when == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            loss, gauges = plain(backbone, *arguments)
            weight = next(iter(backbone.model.parameters()))
            hook = weight.register_hook(lambda gradient: run_out(hook))
            return loss, gauges

        monkeypatch.setattr(method_model, name, limited)
    return tried


def run_out(hook: Any) -> None:
    hook.remove()
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
def test_batches_are_halved_where_memory_runs_out(
    tmp_path: Path, monkeypatch, caplog, method: MethodConfig, when: str
) -> None:
    """In the second micro-batch of a step too; the same losses and weights."""
    shape = {**SHAPE, "batch_size": 6, "gradient_accumulation_steps": 2, "schedule": "constant", "max_steps": 4}
    expected = train(tiny_backbone, tmp_path / "whole", method, **shape)
    tried = limit_memory(monkeypatch, 2, when)
    found = train(tiny_backbone, tmp_path / "halved", method, **shape)
    assert tried[:4] == [6, 3, 2, 2]
    said = [line for line in caplog.messages if "out of memory" in line]
    assert len(said) == 2 and "from here on 3 examples" in said[0] and "trainer.batch_size=2" in said[1]
    for ours, theirs in zip(found[1].history, expected[1].history, strict=True):
        for key in ours.keys() & {"loss", "train_loss", "grad_norm", "learning_rate"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
    for name, value in expected[0].model.state_dict().items():
        assert (value - found[0].model.state_dict()[name]).abs().mean() < 1e-6, name


def test_halved_batches_stay_halved_after_a_restart(tmp_path: Path, monkeypatch) -> None:
    tried = limit_memory(monkeypatch, 2, "forward")
    with pytest.raises(Killed):
        train(tiny_backbone, tmp_path, SFT, callbacks=[KilledIn(5)], **SHAPE)
    tried.clear()
    train(tiny_backbone, tmp_path, SFT, **SHAPE)
    assert set(tried) == {2}


def test_one_example_that_does_not_fit_is_an_error_in_one_line(tmp_path: Path, monkeypatch) -> None:
    limit_memory(monkeypatch, 0, "forward")
    with pytest.raises(UserError, match="out of memory: .*trainer.batch_size.*one example at a time does not fit"):
        train(tiny_backbone, tmp_path, SFT, **SHAPE)
    assert not list((tmp_path / "checkpoints").iterdir())
