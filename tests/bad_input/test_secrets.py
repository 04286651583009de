"""What `${oc.env:...}` gave is used and never written: it is searched for in all that a run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bad_input.command import ROOT, Ended, command
from tests.bad_input.conftest import Refused

SECRET, OTHER = "Zq7xSecretZq7x", "Wk3vHiddenWk3v"
VARIABLES = {"WG_SECRET": SECRET, "WG_OTHER": OTHER, "WG_STEPS": "2", "WG_DATA": f"/tmp/{OTHER}"}
TINY = ["data.train_size=24", "data.validation_size=4", "data.test_size=6", "trainer.max_steps=${oc.env:WG_STEPS}"]
TINY += ["trainer.evaluate_every=2", "task.max_target_tokens=8", "method=sft", "trainer.keep_checkpoints=1"]
PLANTED = [
    "model.name=${oc.env:WG_SECRET}",
    "logger.project=a-${oc.env:WG_SECRET}-b",
    "logger.tags=['x-${oc.env:WG_OTHER}','${logger.project}']",
    "evaluation.bertscore_model=${model.name}/${oc.env:WG_OTHER}",
]


@pytest.fixture(autouse=True)
def _real_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()


def given(*words: str, **more: str) -> Ended:
    """In a process of its own, as training leaves threads and a log of its own."""
    environment = {**os.environ, **VARIABLES, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}
    environment.pop("HYDRA_FULL_ERROR", None)
    program = [sys.executable, str(ROOT / "scripts" / "train.py"), *words]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def search(folder: Path, ended: Ended) -> None:
    """No file, no name and no line has a planted secret."""
    for secret in (SECRET, OTHER):
        assert secret not in ended.printed and secret not in ended.errors
        for path in folder.rglob("*"):
            assert secret not in path.name, path
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_run_its_evaluation_and_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = given(*TINY, *PLANTED)
    assert ended.status == 0, ended.errors
    (run,) = (path for path in (tmp_path / "outputs").iterdir() if path.name != "earlier")
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["model"]["name"] == "${oc.env:WG_SECRET}" and written["seed"] == 1
    assert written["logger"]["project"] == "a-${oc.env:WG_SECRET}-b"
    assert written["logger"]["tags"] == ["x-${oc.env:WG_OTHER}", "${logger.project}"]
    assert written["trainer"]["max_steps"] == "${oc.env:WG_STEPS}"
    assert json.loads((run / "metrics.json").read_text())["model"] == "${oc.env:WG_SECRET}"
    search(tmp_path, ended)
    again = given(*TINY, *PLANTED, f"hydra.run.dir={run.relative_to(tmp_path)}")
    assert again.status == 0 and "is finished already" in again.printed, again
    other = given(*TINY, *PLANTED, f"hydra.run.dir={run.relative_to(tmp_path)}", WG_STEPS="4")
    assert "another 'trainer.max_steps'" in other.error
    (tmp_path / OTHER).symlink_to(run / "model")
    words = ["run=evaluate", "checkpoint=${oc.env:WG_OTHER}", "data.test_size=6", "hydra.run.dir=evaluated"]
    evaluated = given(*words, "task.metrics=[bleu,bertscore]", PLANTED[3])
    assert evaluated.status == 0, evaluated.errors
    (tmp_path / OTHER).unlink()
    search(tmp_path, evaluated)
    tables = given("run=tables", "runs=outputs", "hydra.run.dir=tables", PLANTED[1])
    assert tables.status == 0, tables.errors
    search(tmp_path, tables)


def test_a_multirun_and_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "-m",
        "seed=1,2",
        "logger=wandb",
        "logger.mode=offline",
        "run=train",
        PLANTED[0],
        PLANTED[2].split(",")[0] + "]",
    ]
    ended = given(*words, *TINY, WANDB_MODE="offline", WANDB_DIR="", HOME=str(tmp_path))
    assert ended.status == 0, ended.errors
    search(tmp_path, ended)
    configs = list(tmp_path.rglob("outputs/*/*/config.yaml"))
    assert len(configs) == 2 and all("${oc.env:WG_SECRET}" in path.read_text() for path in configs)
    assert list(tmp_path.rglob("*.wandb"))


def test_errors_and_logs(tmp_path: Path, refused: Refused) -> None:
    for words in (
        ["data=local", "task=custom", "data.train=${oc.env:WG_DATA}/${oc.env:WG_SECRET}.jsonl"],
        ["run=evaluate", "checkpoint=./${oc.env:WG_SECRET}"],
        ["run=tables", "runs=${oc.env:WG_SECRET}"],
        ["device=${oc.env:WG_SECRET}"],
        ["logger.entity=${oc.env:WG_SECRET}/x"],
        ["seed=${oc.env:WG_SECRET}"],
        ["trainer.learning_rate=${oc.env:WG_SECRET}"],
    ):
        line = refused(*words, **VARIABLES)
        assert SECRET not in line and OTHER not in line, line


@pytest.mark.parametrize(
    "word",
    [
        "task.source_template='${oc.env:WG_SECRET} {source}'",
        "task.target_template='${logger.project} {target}'",
        "task.target_language=${oc.env:WG_SECRET}",
    ],
)
def test_what_a_model_is_saved_with_is_written_out(word: str, refused: Refused) -> None:
    line = refused(word, "logger.project=${oc.env:WG_SECRET}", **VARIABLES)
    assert "since it is saved with the model" in line and SECRET not in line


def test_addresses_of_wandb_are_written_out(refused: Refused) -> None:
    for key in ("project", "entity"):
        line = refused("logger=wandb", f"logger.{key}=${{oc.env:WG_SECRET}}", **VARIABLES)
        assert f"logger.{key} is" in line and SECRET not in line


def test_numbers_and_short_words_are_no_secrets(tmp_path: Path) -> None:
    from warmup.display import hide, without_secrets

    for value in ("12345", "1e-3", "true", "de", "-0.5", "null"):
        hide(value, "HIDDEN")
        assert without_secrets(f"a {value} b") == f"a {value} b"


def test_the_help_of_a_job_is_unresolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command("--cfg=job", PLANTED[0], **VARIABLES)
    assert ended.status == 0 and SECRET not in ended.printed
