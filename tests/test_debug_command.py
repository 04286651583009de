"""`debug=overfit|limit|profile`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_train_command import command, error_line
from warmup.runs.finding import find_runs
from warmup.runs.status import find_statuses

SMALL = ["model.vocabulary_size=300", "task.max_target_tokens=16"]


def history(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "history.json").read_text())


@pytest.mark.parametrize("method", ["sft", "warmup"])
def test_one_batch_is_learnt_by_heart(tmp_path: Path, method: str) -> None:
    words = ["debug=overfit", f"method={method}", "trainer.batch_size=4", *SMALL]
    result = command(*words, f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "4 examples; " in result.stdout
    losses = [entry["target_nll"] for entry in history(tmp_path) if "target_nll" in entry]
    assert losses[0] > 2 and losses[-1] < 0.1


def test_a_few_batches_are_followed_and_the_paths_said(tmp_path: Path) -> None:
    result = command("debug=profile", "logger=tensorboard", *SMALL, f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "profile.txt") in result.stdout
    assert "aten::mm" in (tmp_path / "profile.txt").read_text()
    steps = [event["name"] for event in json.loads((tmp_path / "profile_trace.json").read_text())["traceEvents"]]
    assert len({name for name in steps if name.startswith("ProfilerStep#")}) == 3
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 8


def test_more_steps_than_a_training_has_are_refused(tmp_path: Path) -> None:
    line = error_line(command("debug=profile", "trainer.profile_steps=5", f"hydra.run.dir={tmp_path}/run"))
    assert "trainer.profile_steps is 5; allowed: 2 less than trainer.max_steps=6" in line


def test_their_folders_are_not_among_real_runs(tmp_path: Path) -> None:
    config = command("debug=limit", "--cfg", "hydra").stdout
    assert "dir: outputs/debug/${start_time:}_" in config and "dir: outputs/debug/${sweep_name:" in config
    for name in ("real", "debug/tried"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "error.txt").write_text("error: it failed\n")
        (tmp_path / name / "config.yaml").write_text("run: all\n")
    assert [folder for folder, _ in find_runs([tmp_path]).failed] == [tmp_path / "real"]
    assert [status.folder for status in find_statuses([tmp_path])] == [tmp_path / "real"]
    assert [folder for folder, _ in find_runs([tmp_path / "debug"]).failed] == [tmp_path / "debug" / "tried"]
