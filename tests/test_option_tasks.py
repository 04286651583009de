"""Each task with options, from its YAML file alone: trained, scored by labels, its options ranked by likelihood."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.test_train_command import command, error_line

SIZE = ["trainer.max_steps=2", "trainer.evaluate_every=2", "trainer.batch_size=4", "method.max_warmup_tokens=2"]


def logiqa(rng: random.Random) -> dict[str, Any]:
    return {"text": "a", "question": str(rng.random()), "options": ["w", "x", "y", "z"], "answer": rng.randrange(4)}


def commonsense_qa(rng: random.Random) -> dict[str, Any]:
    labels = list("ABCDE"[: rng.choice((3, 5))])
    choices = {"label": labels, "text": [f"thing {label}" for label in labels]}
    return {"question": str(rng.random()), "choices": choices, "answerKey": rng.choice(labels)}


def yes_no(rng: random.Random) -> dict[str, Any]:
    return {"passage": "a b c", "question": str(rng.random()), "answer": rng.random() < 0.5}


@pytest.mark.parametrize(
    ("make", "labels", "uniform"),
    [(logiqa, "ABCD", 25), (commonsense_qa, "ABCDE", None), (yes_no, ["no", "yes"], 50)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_task_with_options_is_a_yaml_file(make: Any, labels: Any, uniform: float | None, tmp_path: Path) -> None:
    rng = random.Random(0)
    records = [make(rng) for _ in range(40)]
    for name, part in (("train", records[:20]), ("test", records[20:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in part))
    words = [f"task={make.__name__}", "data=local", f"data.train={tmp_path}/train.jsonl", *SIZE]
    run, again = tmp_path / "run", tmp_path / "score"
    words += [f"data.test={tmp_path}/test.jsonl", "evaluation.num_warmups=2", f"hydra.run.dir={run}"]
    result = command(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    answered = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert all(line["prediction"] in line["options"] and line["reference"] in line["options"] for line in answered)
    assert {label for line in answered for label in line["options"]} == set(labels)
    found = json.loads((run / "metrics.json").read_text())
    shares = [1 / len(line["options"]) for line in answered]
    assert found["chance"]["accuracy"]["uniform"] == pytest.approx(uniform or 100 * sum(shares) / len(shares))
    assert f"labels:{','.join(labels)}" in found["scores"]["macro_f1"]["signature"] and found["invalid_answers"] == 0
    scored = command(
        "run=score", f"task={make.__name__}", f"predictions={run}/predictions.jsonl", f"hydra.run.dir={again}"
    )
    assert scored.returncode == 0, scored.stdout + scored.stderr
    assert {key: found[key] for key in ("scores", "chance", "invalid_answers")} == {
        key: json.loads((again / "metrics.json").read_text())[key] for key in ("scores", "chance", "invalid_answers")
    }


def test_toy_data_knows_its_tasks(tmp_path: Path) -> None:
    line = error_line(command("task=yes_no", f"hydra.run.dir={tmp_path}/run"))
    assert "data=toy makes up no examples for task=yes_no" in line
