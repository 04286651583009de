"""Pause tokens in tables and figures: a method of its own, compared with SFT as warmup is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.reporting.conftest import Write
from warmup.reporting.figures.differences import _blocks
from warmup.reporting.figures.panels import panels_of
from warmup.reporting.page.html import page
from warmup.reporting.tables.layout import report_on
from warmup.reporting.tables.markdown import markdown
from warmup.reporting.tables.spreadsheet import spreadsheet
from warmup.runs.finding import find_runs
from warmup.runs.paired_examples import partners


@pytest.fixture
def folder(write_run: Write, tmp_path: Path) -> Path:
    """Three seeds of each method; two variants of pauses; the answers of BLEU alone are made up."""
    for seed in (1, 2, 3):
        write_run("sft", seed, 10.0 + seed)
        write_run("warmup", seed, 13.0 + seed, overrides={"method.num_samples": "4"})
        write_run("pause", seed, 11.0 + seed, overrides={"method.num_tokens": "8"})
    write_run("pause", 1, 9.0, overrides={"method.num_tokens": "16"})
    return tmp_path / "runs"


def test_pauses_have_a_table_of_their_own(folder: Path) -> None:
    report = report_on(find_runs([folder]))
    titles = [(table.title, table.name, table.method) for table in report.tables]
    assert titles == [
        ("SFT against warmup", "comparison", "warmup"),
        ("SFT against pause tokens", "comparison_pause", "pause"),
    ]
    warmup, pause = report.tables
    assert [line.row.difference for line in warmup.lines] == [3.0] and warmup.lines[0].row.detail == ""
    assert [(line.row.detail, line.row.difference) for line in pause.lines] == [
        ("num_tokens 8", 1.0),
        ("num_tokens 16", -2.0),
    ]
    shown = markdown(report)
    assert "| SFT | pause tokens | difference |" in shown and "| SFT | warmup | difference |" in shown
    assert "mean of pause tokens minus mean of SFT" in shown
    assert any("seeds 2, 3 of SFT have no pause tokens run beside" in note for note in report.notes)
    records = list(csv.DictReader(io.StringIO(spreadsheet(report))))
    assert [(record["method"], record["warmup_mean"]) for record in records] == [
        ("warmup", "15.0"),
        ("pause", "13.0"),
        ("pause", "9.0"),
    ]


def test_pauses_alone_are_not_called_warmup(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("pause", 1, 11.0)
    report = report_on(find_runs([tmp_path / "runs"]))
    assert [table.title for table in report.tables] == ["SFT against pause tokens"]
    assert "## SFT against pause tokens" in markdown(report)


def test_figures_and_page_name_the_method(folder: Path) -> None:
    runs = find_runs([folder]).runs
    (panel,) = panels_of(runs)
    assert [one.label for one in panel.series] == [
        "SFT",
        "warmup",
        "pause tokens, num_tokens 8",
        "pause tokens, num_tokens 16",
    ]
    assert len({str(one.style) for one in panel.series}) == 4
    tables = report_on(find_runs([folder])).tables
    assert [title for table in tables for title, _ in _blocks(table)] == [
        "translation de-en, tiny_t5",
        "SFT against pause tokens: translation de-en, tiny_t5 (num_tokens 8)",
        "SFT against pause tokens: translation de-en, tiny_t5 (num_tokens 16)",
    ]
    text = page(report_on(find_runs([folder])), runs, [], [], [])
    assert "3 SFT runs, 3 warmup runs, 4 pause tokens runs." in text
    pairs = partners(runs)
    assert {(run.method, sft is not None and sft.seed == run.seed) for run, sft in pairs} == {
        ("warmup", True),
        ("pause", True),
    }
