"""Overrides, tables and records that nobody thought of: hypothesis finds them, one line answers them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_input.command import LONGEST, command, everything_in
from warmup.config.schema import OptionsConfig
from warmup.data.examples import Wording
from warmup.data.load import load_inputs
from warmup.data.local import read_table
from warmup.display import visible
from warmup.errors import UserError
from warmup.metrics.prediction_files import read_scorable
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.runs.finding import find_runs

FEW = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=200)
KEYS = ["seed", "task.metrics", "trainer.max_steps", "trainer.learning_rate", "model.width", "method", "runs"]
KEYS += ["device", "data.fields", "task", "task.source_template", "logger.tags", "model.lora.rank", "task.options"]
KEYS += ["hydra.run.dir"]
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["source", "target", "options", "answer", "prediction", "reference", "warmup", "question", "text"]
RECORDS = st.lists(NESTED | st.dictionaries(st.sampled_from(FIELDS), NESTED, max_size=5), max_size=4)
ENDINGS = [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".txt"]
WORDINGS = [
    Wording("custom", "{source}", "{target}"),
    Wording("custom", "{text} {options}", "{answer}", options=OptionsConfig("options", "answer")),
]


def says_one_line(error: UserError) -> None:
    line = str(error)
    assert line and visible(line) == line and len(line) <= LONGEST, line


@given(key=st.sampled_from(KEYS), value=st.text(max_size=12), sign=st.sampled_from(["", "", "", "+", "++", "~"]))
@FEW
def test_overrides(key: str, value: str, sign: str, workplace: Path) -> None:
    """Each ends well in showing what it composes to, or in one line: nothing is run."""
    before = everything_in(workplace)
    ended = command("--cfg=job", f"{sign}{key}={value}")
    assert "Traceback" not in ended.printed + ended.errors
    assert ended.status == 0 or ended.error
    assert everything_in(workplace) == before


@given(value=NESTED, key=st.sampled_from(KEYS[:-1]))
@FEW
def test_values_of_the_wrong_kind(value: Any, key: str, workplace: Path) -> None:
    """With a device that there is not, so that what is right by chance is refused too."""
    typed = json.dumps(value).replace(": ", ":")
    before = everything_in(workplace)
    ended = command(f"{key}={typed}", "device=gpu", "hydra.run.dir=out")
    assert ended.error and everything_in(workplace) == before


@given(content=st.binary(max_size=200), ending=st.sampled_from(ENDINGS))
@MANY
def test_bytes_that_are_taken_for_a_table(content: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a" + ending)
        file.write_bytes(content)
        _read_every_way(file)


@given(records=RECORDS, as_array=st.booleans())
@MANY
def test_records_of_any_shape(records: list[Any], as_array: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.jsonl")
        file.write_text(json.dumps(records) if as_array else "".join(json.dumps(one) + "\n" for one in records))
        _read_every_way(file)


@given(rows=st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=5), comma=st.booleans())
@MANY
def test_cells_of_any_text(rows: list[list[str]], comma: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.csv" if comma else "a.tsv")
        text = "\n".join(("," if comma else "\t").join(row) for row in rows)
        file.write_text(text, encoding="utf-8", errors="replace")
        _read_every_way(file)


def _read_every_way(file: Path) -> None:
    for read in (
        lambda: list(read_table(str(file))),
        lambda: read_scorable(str(file), None, None),
        lambda: load_inputs(str(file), WORDINGS[0]),
        lambda: load_inputs(str(file), WORDINGS[1]),
        lambda: [WORDINGS[1].example(record, where) for record, where in read_table(str(file))],
    ):
        try:
            read()  # type: ignore[no-untyped-call]
        except UserError as error:
            says_one_line(error)


@given(content=NESTED, key=st.sampled_from(["limits", "wording", "sequence", "sharpening", "format", ""]))
@MANY
def test_settings_of_checkpoints(content: Any, key: str) -> None:
    good: dict[str, Any] = {"format": 1, "limits": {"source": 9, "warmup": 2, "target": 9}}
    good["wording"] = {"task": "custom", "source_template": "{source}", "target_template": "{target}"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "warmup_config.json").write_text(json.dumps({**good, key: content} if key else content))
        try:
            CheckpointSettings.read(folder)
        except UserError as error:
            says_one_line(error)


METRICS = {"task": "t", "data": "d", "model": "m", "method": "sft", "seed": 1, "split": "test", "overrides": {}}
METRICS |= {"examples": 2, "scores": {}, "chance": {}, "skipped": {}, "invalid_answers": None, "notes": []}


@given(content=NESTED, key=st.sampled_from([*METRICS, ""]))
@MANY
def test_metrics_of_runs(content: Any, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "metrics.json").write_text(json.dumps({**METRICS, key: content} if key else content))
        found = find_runs([Path(folder)])
        assert len(found.runs) + len(found.broken) == 1
        assert all(visible(note) == note and len(note) <= 2 * LONGEST for note in found.notes)
