"""Run folders made up by hand: clearly not trained, small, and with numbers that can be checked on paper."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Write a finished run's folder below `tmp_path / "runs"`; later calls are later runs.

    `bleu` is its score. `answers` are its predictions, against "A" as every reference (or `references`). `config` is
    its config.yaml, `history` its history.json; any key of metrics.json can be given by name.
    """
    count = 0

    def write(
        method: str,
        seed: int = 1,
        bleu: float | None = None,
        folder: str = "",
        answers: Sequence[str] = (),
        references: Sequence[str] = (),
        config: dict[str, Any] | None = None,
        history: list[dict[str, Any]] | None = None,
        **values: Any,
    ) -> Path:
        nonlocal count
        count += 1
        run = tmp_path / "runs" / (folder or str(count))
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump(config) if config else "", encoding="utf-8")
        record: dict[str, Any] = {
            "task": "translation de-en",
            "data": "toy",
            "model": "tiny_t5",
            "method": method,
            "seed": seed,
            "overrides": {},
            "split": "test",
            "examples": len(answers) or 200,
            "scores": {} if bleu is None else {"bleu": {"value": bleu, "signature": "nrefs:1|tok:13a"}},
            "chance": {},
            "skipped": {},
            "invalid_answers": None,
            "training_seconds": 12.3,
            "decoding_seconds": 1.2,
        }
        (run / "metrics.json").write_text(json.dumps(record | values), encoding="utf-8")
        os.utime(run / "metrics.json", (1_000_000 + count, 1_000_000 + count))
        if answers:
            pairs = zip(answers, references or ["A"] * len(answers), strict=True)
            lines = [{"source": "?", "warmup": None, "prediction": p, "reference": r} for p, r in pairs]
            (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if history is not None:
            (run / "history.json").write_text(json.dumps(history))
        return run

    return write


@pytest.fixture
def write_answers(write_run: Write) -> Write:
    """Write a run of logiqa that has `right` of `of` questions right, the first ones unless `last`."""

    def write(method: str, right: int, of: int = 20, seed: int = 1, last: bool = False, **values: Any) -> Path:
        answers = ["A"] * right + ["B"] * (of - right)
        scores = {"accuracy": {"value": 100 * right / of, "signature": "accuracy"}}
        values = {"task": "logiqa", "scores": scores} | values
        return write_run(method, seed, answers=answers[::-1] if last else answers, **values)

    return write


def write_predictions(run: Path, lines: list[tuple[str, str | None, str, str]]) -> None:
    """`predictions.jsonl` of a run: source, warmup, prediction and reference of each line."""
    keys = ("source", "warmup", "prediction", "reference")
    text = "".join(json.dumps(dict(zip(keys, line, strict=True))) + "\n" for line in lines)
    (run / "predictions.jsonl").write_text(text, encoding="utf-8")
