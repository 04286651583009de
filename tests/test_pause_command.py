"""method=pause and several candidates as a user types them: train, evaluate, predict, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_train_command import TINY, command, error_line
from warmup.files import read_json


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT, warmup and pause tokens with as many candidates as warmups."""
    folder = tmp_path_factory.mktemp("pause")
    words = ["method=sft,pause,warmup", "evaluation.num_candidates=3", "evaluation.num_warmups=3"]
    result = command("-m", *TINY, *words, "evaluation.substituted_examples=4", f"hydra.sweep.dir={folder}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SFT against pause tokens" in result.stdout and "SFT against warmup" in result.stdout
    return folder


def run_of(sweep: Path, method: str) -> Path:
    return next(sweep.glob(f"translation_tiny_t5_{method}_seed1_*"))


def test_a_checkpoint_of_pauses_says_what_it_answers_with(sweep: Path, tmp_path: Path) -> None:
    run = run_of(sweep, "pause")
    settings = read_json(run / "model" / "warmup_config.json")
    assert settings["method"] == "pause"
    assert (settings["limits"]["warmup"], settings["limits"]["pauses"]) == (None, 8)
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 10 and all(line["warmup"] is None for line in lines)
    assert read_json(run / "metrics.json")["method"] == "pause" and not (run / "warmup_analysis.json").exists()
    other = ["method=sft", "evaluation.num_candidates=3", "evaluation.num_warmups=3"]  # the checkpoint decides
    words = ["run=evaluate", f"checkpoint={run}/model", *TINY, *other]
    result = command(*words, f"hydra.run.dir={tmp_path}/again")
    assert result.returncode == 0, result.stderr
    again = read_json(tmp_path / "again" / "metrics.json")
    assert again["method"] == "pause" and again["scores"] == read_json(run / "metrics.json")["scores"]
    assert (tmp_path / "again" / "predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()
    inputs = tmp_path / "questions.txt"
    inputs.write_text("\n".join(line["source"] for line in lines) + "\n", encoding="utf-8")
    predict = ["run=predict", f"checkpoint={run}/model", f"inputs={inputs}", *other, f"hydra.run.dir={tmp_path}/out"]
    assert command(*predict).returncode == 0
    answered = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in answered] == [line["prediction"] for line in lines]


def test_all_kinds_of_warmups_are_in_the_analysis(sweep: Path) -> None:
    run = run_of(sweep, "warmup")
    found = read_json(run / "warmup_analysis.json")
    kinds = ["own", "shuffled", "random", "constant", "source_start", "empty"]
    assert found["examples"] == 4 and list(found["warmups"]) == kinds
    assert all(0 < found["warmups"][kind]["p_values"]["bleu"] <= 1 for kind in kinds[1:])
    assert "the constant warmup of the controls is" in (run / "train.log").read_text()
    shown = (sweep / "analysis.md").read_text()
    assert "| its own | another input's | random tokens | one for all | source's start | empty |" in shown


def test_a_warmup_checkpoint_refuses_candidates_in_one_line(sweep: Path, tmp_path: Path) -> None:
    words = ["run=evaluate", f"checkpoint={run_of(sweep, 'warmup')}/model", *TINY, "evaluation.num_candidates=4"]
    line = error_line(command(*words, f"hydra.run.dir={tmp_path}/refused"))
    assert "evaluation.num_candidates is 4; allowed: 1 for a model that writes warmups" in line
