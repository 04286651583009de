"""A checkpoint answers with the limits and in the wording that it was trained with, whatever the command says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.saved_model import save_model
from tests.test_train_command import TINY, command, error_line
from warmup.files import read_json, write_json

TEXTS = ["zwei Hunde am See", "ein Mann am Strand läuft", "ein Ball", "die Frau liest zwei Bücher am See"]
OTHERWISE = [
    "task.max_source_tokens=6",
    "task.max_target_tokens=3",
    "method.max_warmup_tokens=2",
    "task.source_template='say {target_language}: {source}'",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds `model`, `test.de` and `test.en`."""
    save_model(tmp_path / "model", TEXTS)
    for side in ("de", "en"):
        (tmp_path / f"test.{side}").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return tmp_path


def answers(folder: Path, *words: str) -> tuple[list[dict[str, Any]], str]:
    """What the model answers, and what the command said."""
    run = folder / "run"
    result = command(f"checkpoint={folder}/model", *words, f"hydra.run.dir={run}")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    run.rename(folder / f"run{len(list(folder.iterdir()))}")
    return [json.loads(line) for line in lines], result.stdout


def test_limits_and_wording_are_the_checkpoints(folder: Path) -> None:
    asked, _ = answers(folder, "run=predict", f"inputs={folder}/test.de", "task=translation_de_en")
    assert len({line["prediction"] for line in asked}) > 1  # or nothing could be told apart
    predicted, _ = answers(folder, "run=predict", f"inputs={folder}/test.de", *OTHERWISE)
    assert predicted == asked
    files = [f"data.test_source={folder}/test.de", f"data.test_target={folder}/test.en"]
    words = ["data=local", *files, "task=translation_de_en", "task.metrics=[chrf]", *OTHERWISE]
    evaluated, said = answers(folder, "run=evaluate", *words)
    assert [(line["warmup"], line["prediction"]) for line in evaluated] == [
        (line["warmup"], line["prediction"]) for line in asked
    ]
    (line,) = [line for line in said.splitlines() if "the checkpoint answers as it was trained" in line]
    for part in ("max_source_tokens is 64, not 6", "max_warmup_tokens is 8, not 2", "max_target_tokens is 64, not 3"):
        assert part in line
    assert (
        "task.source_template is 'translate German to English: {source}'" in line and "task.target_template" not in line
    )


def test_a_checkpoint_of_another_task_is_refused(folder: Path) -> None:
    (folder / "test.csv").write_text("document,summary\nein Text,kurz\n")
    words = ["run=evaluate", f"checkpoint={folder}/model", "task=summarization", "data=local"]
    line = error_line(command(*words, f"data.test={folder}/test.csv", f"hydra.run.dir={folder}/run"))
    assert "task.name is 'summarization'; allowed: translation, which this checkpoint was trained on" in line
    assert not (folder / "run").exists()


def test_a_model_draws_warmups_from_the_distribution_that_it_was_trained_with(tmp_path: Path) -> None:
    """A file without that section is of a version that knew no other than the softmax."""
    words = [*TINY, "method=warmup", "evaluation.sample_warmup=true", "task.metrics=[chrf]"]
    words += ["task.selection_metric=chrf"]
    run = tmp_path / "trained"
    sharpened = ["method.warmup_temperature=0.05", "method.warmup_top_p=0.5"]
    trained = command(*words, *sharpened, f"hydra.run.dir={run}")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    file = run / "model" / "warmup_config.json"
    assert read_json(file)["sharpening"] == {"temperature": 0.05, "top_p": 0.5, "vocabulary": None}

    def again(name: str) -> tuple[list[str], str]:
        """The warmups of the checkpoint, and what the command said."""
        words_of = ["run=evaluate", f"checkpoint={run}/model", *words, f"hydra.run.dir={tmp_path}/{name}"]
        result = command(*words_of)
        assert result.returncode == 0, result.stdout + result.stderr
        lines = (tmp_path / name / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        (said,) = [line for line in result.stdout.splitlines() if "as it was trained" in line] or [""]
        return [json.loads(line)["warmup"] for line in lines], said

    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    warmups, said = again("again")
    assert warmups == [json.loads(line)["warmup"] for line in lines]
    assert "method.warmup_temperature is 0.05, not 1.0; method.warmup_top_p is 0.5, not 1.0" in said
    write_json(file, {key: value for key, value in read_json(file).items() if key != "sharpening"})
    plain, said = again("older")
    assert plain != warmups and not said
