"""A model that is the mean of a training's last checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_resuming import Killed, KilledIn, assert_same, scores
from tests.training.tiny_fit import SFT, WARMUP, Trained, train
from warmup.config.schema import MethodConfig
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.training.checkpoints import checkpoints

# evaluated after steps 2, 4, 6, 8 and 9
SHAPE: dict[str, Any] = {"max_steps": 9, "evaluate_every": 2, "logging_steps": 4, "dropout": 0.1}
LAST: dict[str, Any] = {**SHAPE, "average_checkpoints": 3}
FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]  # the best checkpoint is none of those that are averaged


def mean_of(folder: Path, steps: list[int]) -> dict[str, torch.Tensor]:
    saved = [load_file(folder / "checkpoints" / f"checkpoint-{step}" / "model.safetensors") for step in steps]
    return {name: torch.stack([part[name].double() for part in saved]).mean(0).float() for name in saved[0]}


@pytest.mark.parametrize("architecture", ["t5", "llama"])
@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
def test_the_model_is_the_mean_of_the_last_checkpoints(
    make_backbone, tmp_path: Path, method: MethodConfig, architecture: str
) -> None:
    shape = {**LAST, "dropout": 0.0}
    values = scores(*FALLING, 7.0)
    backbone, result = train(make_backbone, tmp_path, method, architecture, score=values, save=True, **shape)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == [
        f"checkpoint-{step}" for step in (2, 6, 8, 9)
    ]
    expected, weights = mean_of(tmp_path, [6, 8, 9]), backbone.model.state_dict()
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert expected.keys() == saved.keys() and len(saved) > 10
    for name, value in expected.items():
        assert torch.equal(weights[name], value) and torch.equal(saved[name], value), name
    assert not all(torch.equal(weights[name], value) for name, value in mean_of(tmp_path, [9]).items())
    found = [(entry["step"], entry["average/accuracy"]) for entry in result.history if "average/accuracy" in entry]
    assert found == [(9, 7.0)]
    assert [entry["eval_accuracy"] for entry in result.history if "eval_accuracy" in entry] == FALLING


def test_its_dev_scores_are_those_of_the_mean(make_backbone, tmp_path: Path) -> None:
    backbone, result = train(make_backbone, tmp_path, SFT, **LAST)  # scored by the sum of its embeddings
    weight = backbone.model.get_input_embeddings().weight
    assert result.history[-2]["average/accuracy"] == weight.sum().item()


@pytest.mark.parametrize("by", ["steps", "epoch"])
def test_a_killed_training_ends_with_the_same_mean(make_backbone, tmp_path: Path, by: str) -> None:
    shape = {**LAST, "evaluate_by": by, "save": True} | ({"max_steps": 20} if by == "epoch" else {})
    count = 4 if by == "epoch" else 5
    whole = train(make_backbone, tmp_path / "whole", SFT, score=scores(*FALLING[:count], 7.0), **shape)
    folder = tmp_path / "killed"

    def again(*values: float | None, **more: Any) -> tuple[Backbone, Trained]:
        return train(make_backbone, folder, SFT, score=scores(*values), **shape, **more)

    with pytest.raises(Killed):  # between two evaluations
        again(*FALLING, callbacks=[KilledIn(19 if by == "epoch" else 7)])
    (folder / "checkpoints" / "checkpoint-7").mkdir()  # one that a kill cut short
    with pytest.raises(Killed):  # while the mean is evaluated
        again(*FALLING[3:count], None)
    folder = folder.rename(tmp_path / "moved")
    assert_same(whole, again(7.0, callbacks=[KilledIn(count)]))
    assert_same(whole, again())  # finished: nothing is evaluated
    shutil.rmtree(folder / "checkpoints")
    assert_same(whole, again())


def test_early_stopping_ends_with_the_last_ones_too(make_backbone, tmp_path: Path) -> None:
    shape = {**LAST, "max_steps": 30, "early_stopping_patience": 2}
    whole = train(make_backbone, tmp_path, SFT, score=scores(1.0, 3.0, 2.0, 2.0, 7.0), **shape)
    assert whole[1].steps == 8
    for name, value in mean_of(tmp_path, [4, 6, 8]).items():
        assert torch.equal(whole[0].model.state_dict()[name], value)
    assert_same(whole, train(make_backbone, tmp_path, SFT, score=scores(7.0), **shape))


def test_one_that_is_gone_is_named(make_backbone, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(make_backbone, tmp_path, SFT, score=scores(*FALLING), callbacks=[KilledIn(7)], **LAST)
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-4")
    with pytest.raises(UserError, match="checkpoint-4, which is to be averaged, is damaged .it is gone."):
        train(make_backbone, tmp_path, SFT, **LAST)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"max_steps": -1, "epochs": 1.5, "evaluate_every": 3}, 3),  # 6 steps an epoch
        ({"max_steps": 13, "evaluate_by": "epoch"}, 3),
        ({"max_steps": 9, "evaluate_every": 4}, 3),
    ],
    ids=str,
)
def test_a_training_must_evaluate_as_often_as_is_averaged(
    make_backbone, tmp_path: Path, settings: dict[str, Any], most: int
) -> None:
    def counted(done: list[float]) -> Callable[[], float]:
        return lambda: done.append(1.0) or float(len(done))

    steps: list[float] = []
    message = f"trainer.average_checkpoints is {most + 1}; allowed: 1 to {most}, the number of evaluations"
    with pytest.raises(UserError, match=message):
        train(make_backbone, tmp_path / "more", SFT, score=counted(steps), average_checkpoints=most + 1, **settings)
    assert not steps and not checkpoints(tmp_path / "more" / "checkpoints")
    train(make_backbone, tmp_path / "as_many", SFT, score=counted(steps), average_checkpoints=most, **settings)
    assert len(steps) == most + 1
