"""Records of runs that are broken, under run=tables: the other runs have their table, and the status says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.command import LONGEST, command, everything_in
from tests.bad_input.conftest import Refused
from warmup.runs.finding import find_runs

RUNS_CODE = "!!python/object/apply:os.mkdir ['ran']"
BROKEN: list[tuple[str, str]] = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("null", "metrics.json"),
    ("[]", "metrics.json"),
    ("{}", "no 'method'"),
    ("\x00", "not JSON"),
]
# A value that replaces a good one.
REPLACED: list[tuple[str, Any]] = [
    ("method", "dance"),
    ("method", []),
    ("seed", "one"),
    ("seed", None),
    ("seed", 1e999),
    ("examples", "many"),
    ("scores", []),
    ("scores", {"bleu": 5}),
    ("scores", {"bleu": {"value": "high", "signature": "s"}}),
    ("scores", {"bleu": {"value": float("nan"), "signature": "s"}}),
    ("scores", {"bleu": {"value": 1.0}}),
    ("chance", {"bleu": 5}),
    ("skipped", []),
    ("notes", 5),
    ("overrides", []),
    ("invalid_answers", "none"),
    ("unwritable", 5),
    ("training_steps", "ten"),
]


def broken_run(workplace: Path, content: str) -> None:
    folder = workplace / "outputs" / "broken"
    folder.mkdir()
    (folder / "config.yaml").write_text("run: all\n")
    (folder / "metrics.json").write_text(content)


def left_out(workplace: Path) -> str:
    """What the tables say of the broken run; the other one is in them."""
    found = find_runs([workplace / "outputs"])
    assert [run.folder.name for run in found.runs] == ["earlier"]
    assert [folder.name for folder in found.broken] == ["broken"]
    (note,) = found.notes
    assert "broken/metrics.json" in note and note.isprintable() and len(note) < LONGEST
    return note


@pytest.mark.parametrize(("content", "part"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_named_beside_the_table(content: str, part: str, workplace: Path) -> None:
    broken_run(workplace, content)
    assert part in left_out(workplace)


@pytest.mark.parametrize(("key", "value"), REPLACED, ids=[f"{key}={value}"[:40] for key, value in REPLACED])
def test_a_wrong_value_is_named_beside_the_table(key: str, value: Any, workplace: Path) -> None:
    good = json.loads((workplace / "outputs" / "earlier" / "metrics.json").read_text())
    broken_run(workplace, json.dumps({**good, key: value}))
    assert left_out(workplace)


def test_the_tables_of_the_others_are_written_and_the_status_is_not_0(workplace: Path) -> None:
    broken_run(workplace, "[" * 100_000)
    (workplace / "outputs" / "earlier" / "config.yaml").write_text(f"{RUNS_CODE}: 1")
    before = everything_in(workplace)
    ended = command("run=tables", "runs=outputs", "hydra.run.dir=tables")
    assert "outputs/broken/metrics.json does not hold a run's metrics" in ended.error
    assert "nested too deeply" in ended.printed and "Not read: outputs/earlier/config.yaml" in ended.printed
    after = everything_in(workplace)
    assert {name: after[name] for name in before} == before
    assert b"BLEU" in (after["tables/comparison.md"] or b"") and "tables/error.txt" not in after


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "run: ["),
        ("config.yaml", "- a"),
        ("config.yaml", RUNS_CODE),
        ("environment.json", "["),
        ("environment.json", "5"),
        ("inputs.json", "{"),
        ("segment_scores.json", '{"bleu": 5}'),
        ("warmup_analysis.json", "{}"),
    ],
)
def test_a_broken_detail_costs_a_line(name: str, content: str, workplace: Path) -> None:
    (workplace / "outputs" / "earlier" / name).write_text(content)
    found = find_runs([workplace / "outputs"])
    assert len(found.runs) == 1 and not found.broken
    assert any(f"outputs/earlier/{name}" in note for note in found.notes)
    assert not (workplace / "ran").exists()


def test_no_run_at_all(workplace: Path, refused: Refused) -> None:
    (workplace / "empty").mkdir()
    assert "no finished run" in refused("run=tables", "runs=empty")
