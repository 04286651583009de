"""A training that was killed at any moment ends as one that was not; one that has ended stays as it is."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests.training.tiny_fit import SFT, WARMUP, Trained, train
from warmup.config.schema import MethodConfig
from warmup.manifest import put_in_place
from warmup.models.backbone import Backbone
from warmup.training import fit as fit_module
from warmup.training import progress
from warmup.training.checkpoints import checkpoints, last_checkpoint
from warmup.training.interruption import INTERRUPTION, Interrupted
from warmup.training.progress import Progress

TIMES = ("seconds", "train_runtime")
# checkpoints stand between two logged steps, and in the middle of an epoch of 6 steps
SHAPE: dict[str, Any] = {"max_steps": 8, "evaluate_every": 2, "logging_steps": 4, "dropout": 0.1}


class Killed(Exception):
    pass


class KilledIn(TrainerCallback):
    """Ends the process's work after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == self.step:
            raise Killed


def scores(*values: float | None) -> Callable[[], float]:
    """Dev scores, one after the other; the process is killed instead of None."""
    rest: Iterator[float | None] = iter(values)

    def score() -> float:
        value = next(rest)
        if value is None:
            raise Killed
        return value

    return score


def timeless(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name not in TIMES} for entry in history]


def assert_same(expected: tuple[Backbone, Trained], found: tuple[Backbone, Trained]) -> None:
    assert found[1].steps == expected[1].steps
    assert timeless(found[1].history) == timeless(expected[1].history)
    for name, value in expected[0].model.state_dict().items():
        assert torch.equal(value, found[0].model.state_dict()[name]), name


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
@pytest.mark.parametrize("by", ["steps", "epoch"])
def test_a_killed_training_ends_as_one_that_was_not(
    make_backbone, tmp_path: Path, method: MethodConfig, by: str
) -> None:
    shape = {**SHAPE, "evaluate_by": by}
    expected = train(make_backbone, tmp_path / "whole", method, **shape)
    with pytest.raises(Killed):
        train(make_backbone, tmp_path / "killed", method, callbacks=[KilledIn(7)], **shape)
    (tmp_path / "killed" / "checkpoints" / "checkpoint-7").mkdir()  # one that a kill cut short
    # a run may be moved
    (tmp_path / "killed").rename(tmp_path / "moved")
    assert_same(expected, train(make_backbone, tmp_path / "moved", method, **shape))
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "moved")]
    assert list(map(list, histories[0])) == list(map(list, histories[1]))  # the same order too


class AskedToStop(TrainerCallback):
    """A signal comes during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **_) -> None:
        if state.global_step == self.step - 1:
            INTERRUPTION.asked = signal.SIGTERM


@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
@pytest.mark.parametrize(("by", "step"), [("steps", 3), ("steps", 4), ("steps", 8), ("epoch", 5), ("epoch", 6)])
def test_a_training_that_is_asked_to_stop_saves_and_ends_as_one_that_was_not(
    make_backbone, tmp_path: Path, monkeypatch, method: MethodConfig, by: str, step: int
) -> None:
    """In the middle of an epoch and at its end, in a step that is evaluated, in the last one."""
    shape = {**SHAPE, "evaluate_by": by}
    expected = train(make_backbone, tmp_path / "whole", method, **shape)
    monkeypatch.setattr(INTERRUPTION, "asked", None)
    monkeypatch.setattr(INTERRUPTION, "saved", None)
    with pytest.raises(Interrupted) as stop:
        train(make_backbone, tmp_path / "run", method, callbacks=[AskedToStop(step)], **shape)
    assert stop.value.status == 143 and INTERRUPTION.saved == step
    INTERRUPTION.asked = None
    assert_same(expected, train(make_backbone, tmp_path / "run", method, callbacks=[OnlyFrom(step)], **shape))


class OnlyFrom(TrainerCallback):
    """Sees that no step is taken again."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **_) -> None:
        assert state.global_step >= self.step


def test_patience_outlives_a_restart(make_backbone, tmp_path: Path) -> None:
    shape = {**SHAPE, "max_steps": 20, "early_stopping_patience": 3}
    values = [1.0, 3.0, 2.0, 2.5, 1.5]
    expected = train(make_backbone, tmp_path / "whole", SFT, score=scores(*values), **shape)
    assert expected[1].steps == 10
    with pytest.raises(Killed):  # patience has been lost twice
        train(make_backbone, tmp_path / "killed", SFT, score=scores(*values[:4], None), **shape)
    assert_same(expected, train(make_backbone, tmp_path / "killed", SFT, score=scores(*values[4:]), **shape))


@pytest.mark.parametrize("last", ["early", "step", "epoch"])
def test_a_training_that_had_ended_takes_no_further_step(make_backbone, tmp_path: Path, last: str) -> None:
    """Killed after the last checkpoint; then after history.json and training.json; then not at all."""
    shape: dict[str, Any] = {"max_steps": 7, "logging_steps": 3, "dropout": 0.1, "save": True, "evaluate_every": 2}
    values = [1.0, 3.0, 2.0, 2.0]
    if last == "early":
        shape |= {"max_steps": 30, "early_stopping_patience": 2}
    if last == "epoch":
        shape |= {"evaluate_by": "epoch"}
        values = [3.0, 2.0]
    expected = train(make_backbone, tmp_path / "run", SFT, score=scores(*values), **shape)
    assert expected[1].steps == (8 if last == "early" else 7)
    run = (tmp_path / "run").rename(tmp_path / "moved")
    model = [data for data, _ in contents(run / "model").values()]
    record = json.loads((run / "training.json").read_text())
    assert record["steps"] == expected[1].steps

    def again() -> None:
        assert_same(expected, train(make_backbone, run, SFT, score=scores(), callbacks=[KilledIn(8)], **shape))
        assert json.loads((run / "training.json").read_text())["steps"] == record["steps"]

    for name in ("model", "training.json", "history.json"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again()
    assert [data for data, _ in contents(run / "model").values()] == model
    shutil.rmtree(run / "model")
    (run / ".model").mkdir()  # one that was not written whole
    (run / ".model" / "config.json").write_text("{")
    again()
    assert not (run / ".model").exists()
    left = contents(run)
    again()
    shutil.rmtree(run / "checkpoints")  # a user may make room
    again()
    assert {file: left[file] for file in contents(run)} == contents(run)


def test_a_kill_in_the_last_evaluation_adds_no_step(make_backbone, tmp_path: Path) -> None:
    shape = {**SHAPE, "max_steps": 3}
    expected = train(make_backbone, tmp_path / "whole", SFT, score=scores(1.0, 2.0), **shape)
    with pytest.raises(Killed):
        train(make_backbone, tmp_path / "killed", SFT, score=scores(1.0, None), **shape)
    found = train(make_backbone, tmp_path / "killed", SFT, score=scores(2.0), **shape)
    assert found[1].steps == 3
    assert_same(expected, found)


def test_seconds_of_all_parts_are_added_up_and_dev_decoding_is_no_training(
    make_backbone, tmp_path: Path, monkeypatch
) -> None:
    now = [0.0]

    class Step(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            now[0] += 10

    def slow(score: Callable[[], float]) -> Callable[[], float]:
        def decode() -> float:
            now[0] += 1000
            return score()

        return decode

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with pytest.raises(Killed):
        train(make_backbone, tmp_path, SFT, score=slow(scores(1.0, None)), callbacks=[Step()], **SHAPE)
    now[0] += 5000
    _, found = train(make_backbone, tmp_path, SFT, score=slow(scores(1.0, 1.0, 1.0)), callbacks=[Step()], **SHAPE)
    # 2 steps are kept of the first call, and 6 more are taken
    assert found.seconds == 80
    assert [entry["seconds"] for entry in found.history if "eval_accuracy" in entry] == [20, 40, 60, 80]
    assert found.history[-1]["train_runtime"] == 80


def test_what_two_processes_counted_goes_on_in_one_and_in_three(tmp_path: Path, monkeypatch, caplog) -> None:
    parts = [
        Progress(loss=1.0, gauges={"a": [3.0, 2], "b": [1.0, 1]}, logged=4, skipped=1),
        Progress(loss=2.0, gauges={"a": [9.0, 2]}, logged=4, skipped=1),
    ]
    (tmp_path / "progress.json").write_text(json.dumps([asdict(part) for part in parts]))

    def taken(progresses: list[Progress]) -> tuple[float | None, dict[str, float]]:
        monkeypatch.setattr(progress, "gather_object", lambda _: [(part.loss, part.gauges) for part in progresses])
        return progresses[0].take(6)

    found = []
    for processes in (1, 2, 3):
        read = [Progress() for _ in range(processes)]
        for process, part in enumerate(read):
            part.read(tmp_path, processes, process)
            assert part.skipped == 1
        found.append(taken(read))
    assert found == [(0.75, {"a": 3.0, "b": 1.0})] * 3
    assert "checkpoint is of 2 processes: dropout is drawn otherwise" in caplog.text


def test_checkpoints_are_ordered_by_step_and_foreign_ones_left_alone(tmp_path: Path, caplog) -> None:
    for name in (
        "checkpoint-9",
        "checkpoint-10",
        "checkpoint-100x",
        "checkpoint-best",
        "checkpoint-",
        "checkpoint-1e3",
    ):
        unfinished = tmp_path / "unfinished"
        unfinished.mkdir()
        (unfinished / "trainer_state.json").write_text('{"global_step": 1}')
        put_in_place(unfinished, tmp_path / name)
    (tmp_path / "checkpoint-300").write_text("a file")
    os.utime(tmp_path / "checkpoint-10", (0, 0))  # copying a folder changes its times
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not caplog.messages
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_the_best_and_the_last_checkpoints_are_kept_and_nothing_foreign_removed(make_backbone, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    foreign = [folder / "checkpoint-best", folder / "notes"]
    for path in foreign:
        path.mkdir(parents=True)
    values = [3.0, 9.0, *(1.0 for _ in range(10))]
    settings: dict[str, Any] = {"max_steps": 12, "evaluate_every": 1, "keep_checkpoints": 2}
    train(make_backbone, tmp_path, SFT, score=scores(*values), **settings)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2", "checkpoint-11", "checkpoint-12"]
    assert all(path.is_dir() for path in foreign)


def test_a_model_appears_whole_or_not_at_all(make_backbone, tmp_path: Path, monkeypatch) -> None:
    saved = fit_module.save

    def half(backbone, folder, settings) -> None:
        saved(backbone, folder, settings)
        (folder / "model.safetensors").unlink()
        raise Killed

    monkeypatch.setattr(fit_module, "save", half)
    with pytest.raises(Killed):
        train(make_backbone, tmp_path, SFT, save=True, max_steps=2, evaluate_every=2)
    assert not (tmp_path / "model").exists()
