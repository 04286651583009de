"""What an offline wandb run recorded, read back; and what happens without a key or a network, or with a wrong key."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from warmup.config.schema import LoggerConfig
from warmup.errors import UserError
from warmup.metrics.metric import Score
from warmup.reporting.figures.gauges import CONTRASTS, GAUGE_TITLES
from warmup.runs.metrics_records import RunMetrics
from warmup.runs.predictions import Predictions
from warmup.tracking.identity import Identity
from warmup.tracking.training_callback import TrackedTraining
from warmup.tracking.wandb_callback import WandbCallback
from warmup.tracking.wandb_dashboard import lay_out_dashboard, workspace
from warmup.tracking.wandb_results import log_figures, log_files, log_results
from warmup.tracking.wandb_run import wandb_run
from warmup.training.batches import EncodedExamples

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"
OFFLINE = LoggerConfig(wandb=True, mode="offline", tags=["mine", "x" * 70])
IDENTITY = Identity("a_run", "a_sweep", "warmup", ["translation de-en", "mine"])


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of whoever runs the tests, no server, and no file outside the test's folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    for name in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb_home"))


def recorded(folder: Path) -> dict[str, list[Any]]:
    """The records of the one `.wandb` file below `folder`, by type; wandb's background process may still write it."""
    for _ in range(100):
        with suppress(AssertionError):  # a record that is not there in full
            found = scan(folder)
            if found["exit"]:
                return found
        time.sleep(0.1)
    raise TimeoutError(folder)


def scan(folder: Path) -> dict[str, list[Any]]:
    """What the file holds now."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (file,) = folder.rglob("*.wandb")
    store = DataStore()
    store.open_for_scan(str(file))
    found = defaultdict(list)
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        found[record.WhichOneof("record_type")].append(getattr(record, record.WhichOneof("record_type")))
    return found


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def summary(records: dict[str, list[Any]]) -> dict[str, Any]:
    return {key: value for part in records["summary"] for key, value in values(part.update).items()}


def training(run: Any, selection: str = "bleu") -> None:
    """Two training entries and three dev scores, the second of them the largest; 2 epochs a second from the first."""
    callback = TrackedTraining({"wandb": WandbCallback(run)}, model=None, examples=EncodedExamples([[1, 2]], [[3]]))
    arguments = SimpleNamespace(metric_for_best_model=f"eval_{selection}")
    state = SimpleNamespace(log_history=[{"loss": 3.0, "step": 1, "epoch": 0.25, "seconds": 0.0}], global_step=1)
    callback.on_train_begin(arguments, state, None)  # a resumed run: its first entry is history
    for step, entry in [
        (2, {"loss": 2.5, "learning_rate": 0.1, "warmup/token_entropy": 4.5, "epoch": 0.75, "seconds": 0.25}),
        (2, {f"eval_{selection}": 10.0, "eval_chrf": 40.0}),
        (3, {f"eval_{selection}": 12.0, "eval_chrf": 30.0}),
        (4, {f"eval_{selection}": 11.0, "eval_chrf": 20.0}),
        (4, {"train_runtime": 1.0, "train_loss": 2.0}),
    ]:
        state.global_step = step
        state.log_history.append({**entry, "step": step})
        callback.on_log(arguments, state, None, logs=entry)
    callback.on_train_end(arguments, state, None)


def test_the_best_of_a_score_where_smaller_is_better_is_its_least(tmp_path: Path) -> None:
    with wandb_run(OFFLINE, tmp_path, IDENTITY, {}) as run:
        training(run, "ter")
    end = summary(recorded(tmp_path))
    assert end["dev/ter"] == {"min": 10.0} and (end["best/ter"], end["best/step"]) == (10.0, 2)
    assert end["dev/chrf"] == {"max": 40.0}


def metrics(*bleu: Score, **values: Any) -> RunMetrics:
    scores = dict(zip(["bleu"], bleu, strict=False))
    return RunMetrics(task="t", data="d", model="m", method="sft", seed=1, examples=1, scores=scores, **values)


def test_an_offline_run_records_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Figure(figsize=(1, 1)).savefig(tmp_path / "learning_curves.png")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    count = 1005
    predictions = Predictions([f"<b>{i}</b>" for i in range(count)], ["p"] * count, ["r"] * count, [None] * count)
    with caplog.at_level(logging.INFO), wandb_run(OFFLINE, tmp_path, IDENTITY, {"trainer": {"steps": 4}}) as run:
        training(run)
        log_results(run, metrics(Score(9.5, "a signature"), training_seconds=3.0), predictions)
        log_figures(run, [tmp_path / "learning_curves.png", tmp_path / "learning_curves.svg"])
        log_files(run, "model", tmp_path / "model")
    records = recorded(tmp_path)
    (started,) = records["run"]
    assert (started.run_group, started.job_type, started.display_name) == ("a_sweep", "warmup", "a_run")
    assert list(started.tags) == ["translation de-en", "mine", "x" * 64]
    assert values(started.config.update)["trainer"] == {"steps": 4}
    history = [values(record.item) for record in records["history"]]
    assert [(entry["step"], entry["train/loss"]) for entry in history if "train/loss" in entry] == [(1, 3.0), (2, 2.5)]
    (fast,) = [entry for entry in history if "train/samples_per_second" in entry]
    assert (fast["train/epoch"], fast["train/samples_per_second"], fast["train/tokens_per_second"]) == (0.75, 2.0, 6.0)
    assert fast["train/peak_memory_gb"] > 0
    assert [entry["warmup/token_entropy"] for entry in history if "warmup/token_entropy" in entry] == [4.5]
    assert [entry["dev/bleu"] for entry in history if "dev/bleu" in entry] == [10.0, 12.0, 11.0]
    end = summary(records)
    assert end["dev/bleu"] == {"max": 12.0} and end["dev/chrf"] == {"max": 40.0}
    assert (end["best/bleu"], end["best/chrf"], end["best/step"]) == (12.0, 30.0, 3)
    assert end["test/bleu"] == 9.5 and end["training_seconds"] == 3.0
    assert end["figures/learning_curves/_type"] == "image-file"
    (table,) = tmp_path.rglob("examples*.table.json")
    shown = json.loads(table.read_text())
    assert shown["columns"] == ["source", "warmup", "prediction", "reference"]
    assert len(shown["data"]) == 1000 and shown["data"][7] == ["<b>7</b>", None, "p", "r"]
    assert list(tmp_path.glob("wandb/artifacts/staging/*")), "what waits for its upload lies in the run's folder"
    model = next(artifact for artifact in records["artifact"] if artifact.type == "model")
    assert [entry.path for entry in model.manifest.contents] == ["config.json"]
    assert re.search(rf"wandb sync {tmp_path}/wandb/offline-run-\S+", caplog.text)


@pytest.mark.parametrize("logger", [LoggerConfig(), LoggerConfig(wandb=True, mode="disabled")])
def test_nothing_is_recorded_unless_asked_for(logger: LoggerConfig, tmp_path: Path) -> None:
    with wandb_run(logger, tmp_path, IDENTITY, {}) as run:
        assert run is None
    assert not list(tmp_path.iterdir())


def test_wandb_mode_is_obeyed_where_the_configuration_has_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with wandb_run(LoggerConfig(wandb=True), tmp_path, IDENTITY, {}) as run:
        assert run is None


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A wandb server that knows no key."""

    class Refusal(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("key", "reason"), [("", "no key"), (KEY, "cannot be reached"), ("short", "")])
def test_without_a_key_or_a_network_it_goes_on_offline(
    key: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    with wandb_run(LoggerConfig(wandb=True), tmp_path, IDENTITY, {}) as run:
        run.log({"step": 1, "train/loss": 2.0})
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING and r.name.startswith("warmup")]
    assert len(warnings) == 1 and reason in warnings[0] and f"wandb sync {tmp_path}/wandb/offline-run-*" in warnings[0]
    assert any("train/loss" in values(record.item) for record in recorded(tmp_path)["history"])


def test_a_refused_key_is_said_in_one_line_and_nothing_is_lost(
    refusing_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    with wandb_run(LoggerConfig(wandb=True), tmp_path, IDENTITY, {}) as run:
        run.log({"step": 1, "train/loss": 2.0})
    warnings = [record.message for record in caplog.records if record.name.startswith("warmup")]
    assert len([line for line in warnings if "logging offline" in line]) == 1
    assert any("train/loss" in values(record.item) for record in recorded(tmp_path)["history"])
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_what_wandb_cannot_do_costs_a_line_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        id = "x"

        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("the line is dead")

    training(Broken())
    log_results(Broken(), metrics(), Predictions([], [], [], []))
    assert "log results failed (the line is dead); the run goes on" in caplog.text


def test_a_sweep_without_a_network_groups_its_runs_and_leaves_no_key(tmp_path: Path) -> None:
    tiny = "data.train_size=48 data.validation_size=8 data.test_size=10 trainer.max_steps=4 trainer.evaluate_every=2"
    words = f"-m {tiny} trainer.logging_steps=1 task.max_target_tokens=16 method=warmup logger=wandb".split()
    words += ["logger.log_predictions=true", f"hydra.sweep.dir={tmp_path}/my_sweep"]
    environment = {**os.environ, "WANDB_API_KEY": KEY, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "scripts/train.py", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    (job,) = (tmp_path / "my_sweep").glob("*_seed1_*")
    assert "wandb: its server cannot be reached; logging offline" in result.stdout
    records = recorded(job)
    (started,) = records["run"]
    assert (started.run_group, started.job_type) == ("my_sweep", "warmup")
    assert values(started.config.update)["method"]["num_samples"] == 4
    history = [key for record in records["history"] for key in values(record.item)]
    assert {"train/loss", "dev/bleu", "step"} <= set(history)
    logged = {key.removeprefix("warmup/") for key in history if key.startswith("warmup/")}
    assert logged == {*GAUGE_TITLES, *CONTRASTS}, "figures and dashboard have a place for each gauge that is logged"
    score = json.loads((job / "metrics.json").read_text())["scores"]["bleu"]["value"]
    assert summary(records)["test/bleu"] == score
    assert {"predictions", "run_table"} <= {artifact.type for artifact in records["artifact"]}
    (table,) = job.rglob("examples*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 10
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_the_dashboard_has_panels_for_curves_tables_and_gauges() -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    spec = json.dumps(workspace("me", "mine")._to_model().model_dump(mode="json", by_alias=True))
    for name in ("dev/bleu", "train/loss", "warmup/token_entropy", "test/accuracy", "examples", "Run Comparer"):
        assert f'"{name}"' in spec or name in spec, name


def test_a_dashboard_that_cannot_be_saved_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hide_module: Callable[[str], None]
) -> None:
    hide_module("wandb_workspaces")
    with pytest.raises(UserError, match="pip install wandb-workspaces"):
        lay_out_dashboard(LoggerConfig(), tmp_path)


@pytest.mark.parametrize(("key", "reason"), [("", "wandb login"), (KEY, "cannot be reached")])
def test_a_dashboard_without_a_network_leaves_nothing(
    key: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(UserError, match=reason):
        lay_out_dashboard(LoggerConfig(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hide_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package impossible to import."""

    def hide(name: str) -> None:
        for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)

    return hide
