"""A folder with earlier results, which no bad input may change, and no training that a bad input reaches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import warmup.run
from tests.bad_input.command import command, everything_in

Refused = Callable[..., str]


def _trains(*_: object, **__: object) -> None:
    raise AssertionError("it went as far as training")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the results of an earlier run in it."""
    earlier = tmp_path / "outputs" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "config.yaml").write_text("run: all\nseed: 1\n")
    metrics = {"task": "t", "data": "d", "model": "m", "method": "sft", "seed": 1, "split": "test", "overrides": {}}
    metrics |= {"examples": 2, "scores": {"bleu": {"value": 1.0, "signature": "s"}}, "chance": {}, "skipped": {}}
    (earlier / "metrics.json").write_text(json.dumps({**metrics, "invalid_answers": None}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(warmup.run, "train_model", _trains)
    return tmp_path


@pytest.fixture
def refused(workplace: Path) -> Refused:
    """Give a command that must end in one line, and leave everything as it was; the line."""

    def refuse(*words: str, **environment: str) -> str:
        before = everything_in(workplace)
        line = command(*words, **environment).error
        assert everything_in(workplace) == before, set(everything_in(workplace)) ^ set(before)
        return line

    return refuse
