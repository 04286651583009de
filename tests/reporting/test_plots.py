"""The figures are read back: as pictures, and as the lines that were drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from warmup.errors import UserError
from warmup.reporting import plots
from warmup.reporting.plots import write_figures

Write = Callable[..., Path]
BLUE, VERMILLION = plots.SFT_STYLE["color"], plots.COLOURS[0]


def made_up_history(method: str, start: float, steps: int = 50) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        entry = {"step": step, "epoch": step / steps, "loss": 3.0, "target_nll": start * math.exp(-step / steps)}
        if method == "warmup":
            entry |= {"warmup/token_entropy": start / step, "warmup/gain": 0.1, "warmup/my_own_gauge": start}
        history += [entry, {"step": step, "eval_bleu": start + step, "eval_chrf": 1.0, "eval_runtime": 9.0}]
    return [*history, {"step": steps, "train_runtime": 12.0}]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    count = 0

    def write(method: str, seed: int = 1, start: float = 3.0, steps: int = 50, **values: Any) -> Path:
        nonlocal count
        count += 1
        run = tmp_path / str(count)
        run.mkdir()
        record: dict[str, Any] = {"task": "translation de-en", "data": "toy", "model": "tiny_t5", "overrides": {}}
        record |= {"method": method, "seed": seed, "split": "test", "examples": 200, "scores": {}, "chance": {}}
        record |= {"skipped": {}, "invalid_answers": None} | values
        (run / "metrics.json").write_text(json.dumps(record))
        (run / "history.json").write_text(json.dumps(made_up_history(method, start, steps)))
        return run

    return write


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by file name, caught before they become pictures."""
    caught: dict[str, Figure] = {}
    monkeypatch.setattr(plots, "_write_png", lambda figure, path: caught.__setitem__(path.name, figure))
    return caught


def shows(path: Path, colour: str) -> bool:
    picture = imread(path)[:, :, :3]
    return bool((np.abs(picture - np.array(to_rgb(colour))).max(axis=2) < 0.01).sum() > 100)


def bold_lines(figure: Figure, panel: int) -> dict[str, tuple[list[float], ...]]:
    lines = [line for line in figure.axes[panel].get_lines() if line.get_linewidth() > 1]
    return {str(line.get_label()): tuple(np.asarray(line.get_xydata()).T.tolist()) for line in lines}


def test_both_figures_are_drawn_and_nothing_else_is_left(write_run: Write, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run("sft", seed, 3.0 + seed)
        write_run("warmup", seed, 4.0 + seed)
    written = write_figures(tmp_path)
    assert written == [tmp_path / "learning_curves.png", tmp_path / "warmup_gauges.png"]
    assert shows(written[0], BLUE) and shows(written[0], VERMILLION)
    assert shows(written[1], VERMILLION) and not shows(written[1], BLUE)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3", "4", *(path.name for path in written)}


def test_a_single_run_of_sft_has_no_gauges(write_run: Write) -> None:
    run = write_run("sft", task="a $ in the_label^ \\x{")
    assert write_figures(run) == [run / "learning_curves.png"]


def test_curves_are_means_over_seeds(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    write_run("sft", 1, 3.0)
    write_run("warmup", 1, 4.0)
    write_run("warmup", 2, 6.0, steps=30)  # stopped early: the mean ends where it does
    write_figures(tmp_path)
    score, likelihood = figures["learning_curves.png"].axes[:2]
    assert score.get_ylabel() == "dev BLEU"
    assert "nats per token" in likelihood.get_ylabel() and likelihood.get_xlabel() == "optimiser step"
    lines = bold_lines(figures["learning_curves.png"], 0)
    assert lines["SFT"] == ([10, 20, 30, 40, 50], [13, 23, 33, 43, 53])
    assert lines["warmup"] == ([10, 20, 30], [15, 25, 35])
    assert len(score.get_lines()) == 4  # two bold ones, and a thin one for each seed of warmup
    assert set(bold_lines(figures["learning_curves.png"], 1)) == {"SFT", "warmup"}
    names = [axes.get_ylabel() for axes in figures["warmup_gauges.png"].axes]
    assert names == ["token entropy\n(nats)", "gain by\nwarmups (nats)", "my\nown\ngauge"]


def test_experiments_and_variants_are_told_apart(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    for task in ("logiqa", "summarization", "translation de-en", "translation en-de"):
        write_run("sft", task=task)
        for samples in ("4", "16"):
            write_run("warmup", task=task, overrides={"method.num_samples": samples})
    write_figures(tmp_path)
    titles = [axes.get_title() for axes in figures["learning_curves.png"].axes if axes.get_title()]
    tasks = ["logiqa", "summarization", "translation de-en", "translation en-de"]
    assert titles == [f"{task}\ntiny_t5" for task in tasks]  # four panels, the last in a second row
    assert set(bold_lines(figures["learning_curves.png"], 0)) == {
        "SFT",
        "warmup, num_samples 4",
        "warmup, num_samples 16",
    }


def test_the_stated_selection_metric_is_drawn(write_run: Write, figures: dict[str, Figure]) -> None:
    run = write_run("sft", selection_metric="chrf")
    write_figures(run)
    assert figures["learning_curves.png"].axes[0].get_ylabel() == "dev chrF++"
    assert bold_lines(figures["learning_curves.png"], 0)["SFT"][1] == [1.0] * 5


def test_long_histories_are_averaged_over_spans(write_run: Write, figures: dict[str, Figure]) -> None:
    run = write_run("sft", steps=10_000)
    write_figures(run)
    steps, values = bold_lines(figures["learning_curves.png"], 1)["SFT"]
    assert len(steps) == plots.MOST_POINTS and steps[-1] == 10_000
    first = [3.0 * math.exp(-step / 10_000) for step in range(10, 101, 10)]
    assert values[0] == pytest.approx(sum(first) / 10)


def test_values_that_are_no_numbers_are_left_out(write_run: Write, figures: dict[str, Figure]) -> None:
    run = write_run("sft")
    history = [{"step": 10, "target_nll": None}, {"step": 20, "target_nll": math.inf}, {"step": 30, "target_nll": 2.0}]
    (run / "history.json").write_text(json.dumps([*history, {"train_loss": 1.0}]))
    write_figures(run)
    assert bold_lines(figures["learning_curves.png"], 1)["SFT"] == ([30], [2.0])


def test_without_a_history_nothing_is_drawn(write_run: Write, tmp_path: Path) -> None:
    run = write_run("sft")
    (run / "history.json").write_text("[]")
    assert write_figures(run) == []
    (run / "history.json").unlink()
    assert write_figures(tmp_path) == []


def test_a_broken_history_is_named(write_run: Write) -> None:
    run = write_run("sft")
    for text in ("{", '{"step": 1}'):
        (run / "history.json").write_text(text)
        with pytest.raises(UserError, match=str(run / "history.json")):
            write_figures(run)


def test_a_folder_that_cannot_be_written_is_said(write_run: Write) -> None:
    run = write_run("sft")
    (run / "learning_curves.png").mkdir()
    with pytest.raises(UserError, match="cannot write .*learning_curves.png"):
        write_figures(run)
    assert not list(run.glob(".learning*"))
