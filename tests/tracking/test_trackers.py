"""TensorBoard's event files and mlflow's files, read back; several trackers at once; what is not installed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.training.tiny_fit import SFT, copy_task, train
from warmup.answering.answerer import Answerer
from warmup.answering.dev_loss import dev_loss
from warmup.config.schema import EvaluationConfig, LoggerConfig
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.tracking.identity import Identity
from warmup.tracking.mlflow_run import mlflow_run
from warmup.tracking.runs import Trackers

ROOT = Path(__file__).parents[2]
TINY = "data.train_size=48 data.validation_size=8 data.test_size=10 trainer.max_steps=4 trainer.evaluate_every=2"
IDENTITY = Identity("a_run", "a_sweep", "warmup")


def events(folder: Path) -> Any:
    """What TensorBoard shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def mlflow_files(store: Path) -> dict[str, Any]:
    """The one run of a file store: its metrics as (step, value), its parameters, its name and status."""
    (meta,) = [file for file in store.glob("*/*/meta.yaml") if file.parent.name != "0"]
    folder = meta.parent
    metrics = {}
    for file in (folder / "metrics").rglob("*"):
        if file.is_file():
            rows = [line.split() for line in file.read_text().splitlines()]
            metrics[file.relative_to(folder / "metrics").as_posix()] = [(int(row[2]), float(row[1])) for row in rows]
    params = {file.name: file.read_text() for file in (folder / "params").iterdir()}
    return {"metrics": metrics, "params": params, "meta": yaml.safe_load(meta.read_text()), "folder": folder}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Trackers]:
    """Makes the trackers of a run that goes to TensorBoard alone."""
    from torch.utils.tensorboard import SummaryWriter

    return lambda folder: Trackers(folder, board=SummaryWriter(str(folder / "tensorboard"), purge_step=0))


def test_three_trackers_at_once_record_the_same_run(tmp_path: Path) -> None:
    words = f"{TINY} trainer.logging_steps=1 task.max_target_tokens=16 method=warmup logger.mode=offline".split()
    words += ["logger=[wandb,tensorboard,mlflow]", f"hydra.run.dir={tmp_path}/run", "logger.log_predictions=true"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "WANDB"))}
    result = subprocess.run(
        [sys.executable, "scripts/train.py", *words],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    run = tmp_path / "run"
    history = json.loads((run / "history.json").read_text())
    score = json.loads((run / "metrics.json").read_text())["scores"]["bleu"]["value"]
    assert list(run.glob("wandb/offline-run-*/*.wandb"))

    shown = scalars(run / "tensorboard")
    for key in ("eval/loss", "eval/bleu", "train/epoch", "train/samples_per_second", "train/tokens_per_second"):
        assert len(shown[key]) >= 2 and all(value >= 0 for _, value in shown[key]), key
    dev = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    assert shown["eval/loss"] == [(step, pytest.approx(value, rel=1e-6)) for step, value in dev]
    assert shown["test/bleu"] == [(4, pytest.approx(score, rel=1e-6))]
    assert shown["train/peak_memory_gb"][0][1] > 0.05
    weights = sum(value.numel() for value in torch_weights(run / "model").values())
    assert shown["model/parameters"] == shown["model/trained_parameters"] == [(0, weights)]
    texts = events(run / "tensorboard").Tags()["tensors"]
    assert {"args/text_summary", "model_config/text_summary"} <= set(texts)

    found = mlflow_files(tmp_path / "mlruns")
    assert found["meta"]["run_name"] == "run" and found["meta"]["status"] == 3  # finished
    assert found["metrics"]["eval_loss"] == dev
    assert found["metrics"]["test/bleu"] == [(4, score)]
    assert {"epoch", "samples_per_second", "tokens_per_second", "peak_memory_gb"} <= found["metrics"].keys()
    assert found["params"]["parameters"] == str(weights)
    assert found["params"]["d_model"] == "64" and found["params"]["max_steps"] == "4"
    kept = {file.name for file in (found["folder"] / "artifacts").iterdir()}
    assert {"config.yaml", "predictions.jsonl"} <= kept


def torch_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_resumed_run_shows_each_step_once(
    tmp_path: Path, make_backbone: Callable[..., Backbone], board: Callable[[Path], Trackers]
) -> None:
    class Killed(Exception):
        pass

    scored = []

    def dies_at_the_second() -> float:
        scored.append(0)
        if len(scored) == 2:
            raise Killed
        return 1.0

    data, model = copy_task(make_backbone("t5")), make_backbone("t5").model
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(make_backbone, run, SFT, score=dies_at_the_second, callbacks=board(run).callbacks(model, data))
    train(make_backbone, run, SFT, score=lambda: 1.0, callbacks=board(run).callbacks(model, data))
    shown = scalars(run / "tensorboard")
    assert [step for step, _ in shown["train/loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [step for step, _ in shown["eval/accuracy"]] == [4, 8]


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_the_dev_loss_is_that_of_training(architecture: str, make_backbone: Callable[..., Backbone]) -> None:
    """Of SFT the plain model's cross entropy; of warmups -log of the mean likelihood, which one warmup shows."""
    backbone = make_backbone(architecture)
    data = copy_task(backbone, 10)
    answerer = Answerer(backbone, Limits(16, None, 4), EvaluationConfig(batch_size=3))
    found = dev_loss(answerer, data.sources, data.targets, 4)
    total = 0.0
    for source, target in zip(data.sources, data.targets, strict=True):
        if architecture == "t5":
            loss = backbone.model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).loss
        else:
            labels = torch.tensor([[-100] * len(source) + target])
            loss = backbone.model(input_ids=torch.tensor([source + target]), labels=labels).loss
        total += loss.item() * len(target)
    assert found == pytest.approx(total / sum(map(len, data.targets)), rel=1e-4)
    warm = Answerer(backbone, Limits(16, 3, 4), EvaluationConfig(batch_size=3), seed=7)
    one, many = (dev_loss(warm, data.sources, data.targets, count) for count in (1, 4))
    assert one != many and abs(one - many) < 1
    assert many == pytest.approx(dev_loss(warm, data.sources, data.targets, 4)), "seeded"


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_said_in_one_line(tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmup.config.logger.find_spec", lambda name: None if name == tracker else object())
    with pytest.raises(UserError, match=f"logger={tracker} needs a package that is not installed: pip install"):
        LoggerConfig(**{tracker: True}).check()
    LoggerConfig(wandb=True).check()


def test_a_server_that_is_not_there_costs_a_line_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING), mlflow_run(LoggerConfig(mlflow=True), tmp_path / "run", IDENTITY) as mlflow:
        mlflow.log_metric("loss", 2.0, step=1)
    assert f"recorded in {tmp_path}/mlruns instead" in caplog.text
    assert mlflow_files(tmp_path / "mlruns")["metrics"]["loss"] == [(1, 2.0)]
