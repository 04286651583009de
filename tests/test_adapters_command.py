"""LoRA as a user types it: trained, saved either way, evaluated again, given again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM

from tests.models.adapted import FOR_4_BITS, pretrained
from tests.test_train_command import TINY, command, error_line

LORA = ["task=summarization", *TINY, "trainer.learning_rate=0.02", "model.lora.rank=4"]


def predictions(folder: Path) -> list[str]:
    return [json.loads(line)["prediction"] for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "merge", "rounded"), [("warmup", False, False), ("sft", True, False), ("warmup", False, True)]
)
def test_a_model_with_adapters_answers_as_it_was_trained(
    tmp_path: Path, method: str, merge: bool, rounded: bool
) -> None:
    base, folder = pretrained(tmp_path / "base", "t5", FOR_4_BITS if rounded else 32), tmp_path / "run"
    words = [*LORA, f"model.pretrained={base}", f"method={method}", f"model.lora.merge={str(merge).lower()}"]
    if rounded:
        pytest.importorskip("bitsandbytes")
        words.append("model.load_in_4bit=true")
    result = command(*words, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    lines = (folder / "train.log").read_text().splitlines()
    said = "LoRA of rank 4 in q, k, v, o, wi, wo: " + ("" if rounded else "8,768 of ")
    assert any(said in line for line in lines[:4])
    saved = {path.name for path in (folder / "model").iterdir()}
    assert "warmup_config.json" in saved
    assert ("model.safetensors" in saved) == merge and ("adapter_model.safetensors" in saved) != merge
    if merge:
        AutoModelForSeq2SeqLM.from_pretrained(folder / "model")
    again = tmp_path / "again"
    evaluated = ["task=summarization", *TINY[:3], "task.max_target_tokens=16"]
    result = command("run=evaluate", *evaluated, f"checkpoint={folder / 'model'}", f"hydra.run.dir={again}")
    assert result.returncode == 0, result.stderr
    answers = predictions(folder)
    assert predictions(again) == answers and len(set(answers)) > 1
    (folder / "metrics.json").unlink()  # as if it had been killed after training
    assert command(*words, f"hydra.run.dir={folder}").returncode == 0
    assert predictions(folder) == answers
    if not merge:  # what the checkpoint stands on is an input too
        (base / "generation_config.json").write_text("{}")
        line = error_line(
            command("run=evaluate", *evaluated, f"checkpoint={folder / 'model'}", f"hydra.run.dir={again}")
        )
        assert 'holds a run with another "checkpoint\'s base model"' in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.pretrained=x"], "model.load_in_4bit is True; allowed: false without LoRA"),
        (
            ["model.pretrained=x", "model.lora.rank=4"],
            "model.lora.merge is True; allowed: false with model.load_in_4bit",
        ),
        (["model.lora.rank=4", "model.lora.merge=false"], "model.lora.rank is 4; allowed: null"),
    ],
)
def test_4_bits_are_for_weights_that_stay_as_they_are(words: list[str], said: str) -> None:
    assert said in error_line(command(*TINY, "model.load_in_4bit=true", *words))


def test_a_name_of_no_layer_gets_a_line(tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base", "t5")
    words = [*LORA, f"model.pretrained={base}", "model.lora.target_modules=[q,vv]"]
    line = error_line(command(*words, f"hydra.run.dir={tmp_path / 'run'}"))
    assert "model.lora.target_modules is 'vv'; allowed: q, k, v, o, wi, wo" in line
