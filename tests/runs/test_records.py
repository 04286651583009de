"""The files of a run: each is read back as it was written, a broken one names itself, and one list has them all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from warmup.answering.answerer import Answer
from warmup.config.explain import CONF
from warmup.data.examples import Example
from warmup.errors import UserError
from warmup.metrics.evaluation import Score
from warmup.runs.file_names import RunFile
from warmup.runs.finding import find_runs
from warmup.runs.folder import finished
from warmup.runs.metrics_records import RunMetrics, SegmentScores, WarmupAnalysis
from warmup.runs.predictions import Predictions
from warmup.runs.records import Environment, Failure, Inputs, RunConfiguration
from warmup.training.results import Training, TrainingHistory

METRICS = RunMetrics(
    task="translation en-de",
    data="toy",
    model="tiny",
    method="warmup",
    seed=3,
    overrides={"trainer.max_steps": "4"},
    selection_metric="bleu",
    examples=2,
    scores={"bleu": Score(12.5, "tok:13a")},
    chance={"accuracy": {"uniform": 25.0, "majority": 50.0}},
    skipped={"comet": "no model"},
    notes=["a note"],
    invalid_answers=0.5,
    unwritable={"test": {"examples": 1}},
    training_seconds=1.5,
    training_steps=4,
    decoding_seconds=0.5,
)
SUBSTITUTED = {name: {"scores": {"bleu": 1.0}, "target_nll": 2.0, "changed": 0.0} for name in ("own", "empty")}
RECORDS: list[Any] = [
    METRICS,
    RunConfiguration.of(OmegaConf.create({"run": "all", "rate": 1e-5, "name": "1e-5", "none": None, "seed": 1})),
    Inputs({"data.train": "0" * 64}),
    Environment(device="cpu", precision="bfloat16", threads=1, git_commit="abc+changes", packages={"torch": "2.0"}),
    TrainingHistory([{"loss": 1.0, "step": 1}]),
    Training(2.5, 4),
    Predictions(["a", "b"], ["x", ""], ["y", "z"], [None, "w\n"]),
    SegmentScores({"rougeL": [1.0, 0.0]}),
    WarmupAnalysis(2, 0.0, SUBSTITUTED),
    Failure("it broke"),
]
FILES = {
    RunMetrics: RunFile.METRICS,
    RunConfiguration: RunFile.CONFIG,
    Inputs: RunFile.INPUTS,
    Environment: RunFile.ENVIRONMENT,
    TrainingHistory: RunFile.HISTORY,
    Training: RunFile.TRAINING,
    Predictions: RunFile.PREDICTIONS,
    SegmentScores: RunFile.SEGMENT_SCORES,
    WarmupAnalysis: RunFile.WARMUP_ANALYSIS,
    Failure: RunFile.FAILURE,
}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_back_as_it_was_written(record: Any, tmp_path: Path) -> None:
    record.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILES[type(record)]]
    assert type(record).read(tmp_path) == record


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind is not Failure])
@pytest.mark.parametrize("content", [b"{", b'"text"', b'[1, "x"]', b"\xff\xfe{", b'{"warmups": 3, "a": {"b": [}'])
def test_a_broken_file_names_itself(kind: type[Any], content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILES[kind]).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / FILES[kind]))):
        kind.read(tmp_path)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SegmentScores, '{"rougeL": ["much"]}'),
        (SegmentScores, '{"rougeL": 3}'),
        (WarmupAnalysis, '{"examples": 2, "same_warmup": 0.0, "warmups": {"own": {"changed": 0.0}}}'),
        (WarmupAnalysis, '{"examples": 2, "same_warmup": 0.0, "warmups": {"own": {"scores": {}, "changed": NaN}}}'),
        (Training, '{"seconds": "many", "steps": 1}'),
        (Training, '{"steps": 1}'),
    ],
)
def test_a_file_of_other_content_names_itself(kind: type[Any], content: str, tmp_path: Path) -> None:
    (tmp_path / FILES[kind]).write_text(content)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / FILES[kind]))):
        kind.read(tmp_path)


@pytest.mark.parametrize("kind", [RunConfiguration, Inputs, Environment, SegmentScores])
def test_a_folder_without_the_file_reads_as_an_empty_record(kind: Callable[[], Any], tmp_path: Path) -> None:
    assert kind.read(tmp_path) == kind()  # type: ignore[attr-defined]


def test_predictions_have_a_reference_where_there_is_one(tmp_path: Path) -> None:
    answers = [Answer("a warmup", "x"), Answer(None, "y")]
    keys = []
    for target in ("z", None):
        examples = [Example(source, f"translate: {source}", target) for source in "ab"]
        Predictions.of(answers, examples).write(tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
        assert [(line["source"], line["warmup"], line["prediction"]) for line in lines] == [
            ("a", "a warmup", "x"),
            ("b", None, "y"),
        ]
        keys.append([list(line) for line in lines])
    assert keys == [2 * [["source", "warmup", "prediction", "reference"]], 2 * [["source", "warmup", "prediction"]]]
    with pytest.raises(UserError, match="does not hold a run's answers"):
        Predictions.read(tmp_path)


def test_a_broken_detail_of_a_run_is_said_and_costs_neither_the_run_nor_the_table(tmp_path: Path) -> None:
    METRICS.write(tmp_path)
    broken = [RunFile.CONFIG, RunFile.INPUTS, RunFile.ENVIRONMENT, RunFile.SEGMENT_SCORES, RunFile.WARMUP_ANALYSIS]
    assert not find_runs([tmp_path]).notes
    for name in broken:
        (tmp_path / name).write_text("[")
    found = find_runs([tmp_path])
    assert len(found.notes) == len(broken) and [run.seed for run in found.runs] == [3]
    for name in broken:
        assert sum(f"Not read: {tmp_path / name} " in note for note in found.notes) == 1, name


def test_a_folder_with_a_broken_configuration_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("run: [")
    with pytest.raises(UserError, match=r"config.yaml is not what a run writes .*choose another folder with hydra"):
        finished(tmp_path, OmegaConf.create({"run": "all"}))


def test_the_configuration_page_lists_every_file_of_a_run() -> None:
    page = (CONF.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = page.partition("## What a run writes")[2].partition("\n| file |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(set(named) - {"learning_curves.png"}) == sorted(file.value for file in RunFile)
    assert len(named) == len(set(named))
