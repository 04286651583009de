"""The tasks that are right or wrong without options, bAbI and SVAMP, as a user runs them: files, wording, accuracy."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from tests.test_train_command import ROOT, command, error_line
from warmup.command_line import FACTS, prepare
from warmup.config.checks import check
from warmup.config.groups import CONF
from warmup.data.load import load_splits

SIZE = ["trainer.max_steps=2", "trainer.evaluate_every=2", "trainer.batch_size=4", "method.max_warmup_tokens=2"]
REAL = ROOT.parent / "shared" / "data"
SPLITS = {"train": 20, "validation": 4, "test": 12}


def write_babi(folder: Path) -> None:
    """Files of tasks 16 and 19 in the form and with the names that experiment=babi reads."""
    rng = random.Random(0)
    for task, answers in (("qa16", ["green", "gray"]), ("qa19", ["n,w", "s,e"])):
        for split, size in SPLITS.items():
            records = [{"source": f"{rng.random()} is what?", "target": rng.choice(answers)} for _ in range(size)]
            with gzip.open(folder / f"{task}_{split}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.write("".join(json.dumps(record) + "\n" for record in records))


def write_svamp(folder: Path) -> None:
    """Files in the form and with the names that experiment=svamp reads; the test file has one field more."""
    rng = random.Random(0)
    for split, size in SPLITS.items():
        extra = {"type": "Subtraction"} if split == "test" else {}
        records = [{"question": f"{rng.random()} + 1 ?", "answer": str(rng.randrange(3)), **extra} for _ in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize(
    ("words", "label", "write", "variable"),
    [
        (["experiment=babi"], "qa16", write_babi, "BABI"),
        (["experiment=babi", "task=babi_19"], "qa19", write_babi, "BABI"),
        (["experiment=svamp"], "svamp", write_svamp, "SVAMP"),
    ],
    ids=["babi", "babi_19", "svamp"],
)
def test_a_folder_is_trained_on_and_scored_by_exact_match(
    words: list[str], label: str, write: Any, variable: str, tmp_path: Path
) -> None:
    write(tmp_path)
    run = tmp_path / "run"
    result = command(*words, *SIZE, f"hydra.run.dir={run}", **{variable: str(tmp_path)})
    assert result.returncode == 0, result.stdout + result.stderr
    answered = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    found = json.loads((run / "metrics.json").read_text())
    right = sum(line["prediction"].strip() == line["reference"] for line in answered)
    labels = Counter(line["reference"] for line in answered)
    assert found["task"] == label and len(answered) == SPLITS["test"]
    assert found["scores"]["accuracy"]["value"] == pytest.approx(100 * right / len(answered))
    assert found["chance"]["accuracy"]["uniform"] == pytest.approx(100 / len(labels))
    assert found["chance"]["accuracy"]["majority"] == pytest.approx(100 * max(labels.values()) / len(answered))


def test_a_number_is_judged_by_its_text(tmp_path: Path) -> None:
    answers = ["58", " 58 ", "58.0", "58 apples", "fifty-eight", "058", "0.5", ".5"]
    references = ["58"] * 6 + ["0.5"] * 2
    lines = [{"prediction": a, "reference": r} for a, r in zip(answers, references, strict=True)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = command("run=score", "task=svamp", f"predictions={tmp_path}/p.jsonl", f"hydra.run.dir={tmp_path}/scored")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert found["scores"]["accuracy"]["value"] == 100 * 3 / 8  # the first two and the plain 0.5


def test_a_folder_without_the_file_is_one_line_that_names_the_key(tmp_path: Path) -> None:
    line = error_line(command("experiment=babi", "task=babi_2", f"hydra.run.dir={tmp_path}/run", BABI=str(tmp_path)))
    assert "data.train" in line and "qa2_train.jsonl.gz" in line


REAL_DATA = [
    pytest.mark.needs_real_data,
    pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent"),
]
REAL_FILES = [
    ("babi", "babi_2", 10_000, 500, 1000),
    ("babi", "babi_15", 10_000, 500, 1000),
    ("babi", "babi_16", 10_000, 500, 1000),
    ("babi", "babi_19", 2938, 500, 1000),
    ("svamp", "svamp", 2838, 300, 1000),
]


@pytest.mark.parametrize("files", [pytest.param(files, marks=REAL_DATA, id=files[1]) for files in REAL_FILES])
def test_the_real_files_are_read_whole(files: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, task, *sizes = files
    monkeypatch.setenv(experiment.upper(), str(REAL / experiment))
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"experiment={experiment}", f"task={task}", "data.max_train_examples=null"]
        config = check(compose("config", overrides), FACTS)
    splits = load_splits(config.task, config.data)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == sizes
    assert experiment == "svamp" or all(example.prompt.endswith("?") for example in splits.test)
