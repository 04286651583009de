"""Comparisons of small run folders, checked against numbers computed by hand."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from warmup.errors import UserError
from warmup.reporting.runs import failed_runs, find_runs
from warmup.reporting.tables import Cell, Row, markdown_table, print_table, write_comparison

Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Write a finished run's folder; `bleu` is its score, other keys of metrics.json can be given by name."""
    count = 0

    def write(method: str, seed: int, bleu: float | None = None, folder: str = "", **values: Any) -> Path:
        nonlocal count
        count += 1
        run = tmp_path / "runs" / (folder or str(count))
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
        record: dict[str, Any] = {
            "task": "translation de-en",
            "data": "toy",
            "model": "tiny_t5",
            "method": method,
            "seed": seed,
            "overrides": {},
            "split": "test",
            "examples": 200,
            "scores": {} if bleu is None else {"bleu": {"value": bleu, "signature": "nrefs:1|tok:13a"}},
            "chance": {},
            "skipped": {},
            "invalid_answers": None,
            "training_seconds": 12.3,
            "decoding_seconds": 1.2,
        }
        (run / "metrics.json").write_text(json.dumps(record | values), encoding="utf-8")
        os.utime(run / "metrics.json", (1_000_000 + count, 1_000_000 + count))
        return run

    return write


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def printed(folder: Path, terminal: bool = False) -> str:
    output = io.StringIO()
    print_table(write_comparison(folder), Console(file=output, width=80, force_terminal=terminal))
    return output.getvalue()


def test_seeds_are_averaged_and_a_loss_is_shown(write_run: Write, tmp_path: Path) -> None:
    for seed, sft, warmup in [(1, 10.0, 9.0), (2, 12.0, 10.0)]:
        write_run("sft", seed, sft)
        write_run("warmup", seed, warmup)
    comparison = write_comparison(tmp_path / "runs")
    cells = Cell(11.0, 2**0.5, 2), Cell(9.5, 0.5**0.5, 2)
    assert comparison.rows == [Row("translation de-en", "tiny_t5", "", "bleu", *cells)]
    text = (tmp_path / "runs" / "comparison.md").read_text(encoding="utf-8")
    assert table_lines(text) == ["| translation de-en | tiny_t5 | BLEU | 11.00 ± 1.41 | 9.50 ± 0.71 | -1.50 | 2 |"]
    assert "| task | model | metric | SFT | warmup | difference | seeds |" in text
    assert "- BLEU: `nrefs:1|tok:13a`" in text
    assert "mean of warmup minus mean of SFT" in text
    assert text == markdown_table(comparison)


def test_one_seed_has_no_spread_and_unequal_counts_show(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("warmup", 1, 10.5)
    write_run("warmup", 2, 11.5)
    text = markdown_table(write_comparison(tmp_path / "runs"))
    assert table_lines(text) == ["| translation de-en | tiny_t5 | BLEU | 10.00 | 11.00 ± 0.71 | +1.00 | 1/2 |"]


def test_a_missing_method_leaves_a_visible_gap(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("warmup", 1, 30.0, task="translation en-de")
    assert table_lines(markdown_table(write_comparison(tmp_path / "runs"))) == [
        "| translation de-en | tiny_t5 | BLEU | 10.00 | – | – | 1/0 |",
        "| translation en-de | tiny_t5 | BLEU | – | 30.00 | – | 0/1 |",
    ]


def test_a_repeated_run_is_no_second_seed(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, overrides={"seed": "1", "logger": "none", "device": "cpu"})
    newest = write_run("sft", 1, 20.0)
    write_run("warmup", 1, 21.0)
    text = markdown_table(write_comparison(tmp_path / "runs"))
    assert table_lines(text) == ["| translation de-en | tiny_t5 | BLEU | 20.00 | 21.00 | +1.00 | 1 |"]
    assert "translation de-en, tiny_t5, SFT, seed 1 was run 2 times; only the newest counts, " in text
    assert str(newest) in text


def test_variants_of_warmup_share_the_sft_runs(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, overrides={"method": "sft"})
    for samples, bleu in [("16", 12.0), ("4", 11.0)]:
        write_run("warmup", 1, bleu, overrides={"method.num_samples": samples, "method.baseline": "loo"})
    assert table_lines(markdown_table(write_comparison(tmp_path / "runs"))) == [
        "| translation de-en | tiny_t5 (num_samples 4) | BLEU | 10.00 | 11.00 | +1.00 | 1 |",
        "| translation de-en | tiny_t5 (num_samples 16) | BLEU | 10.00 | 12.00 | +2.00 | 1 |",
    ]


def test_other_overrides_separate_experiments(write_run: Write, tmp_path: Path) -> None:
    shared = {"trainer.batch_size": "8"}
    write_run("sft", 1, 10.0, overrides=shared)
    write_run("warmup", 1, 11.0, overrides=shared)
    write_run("sft", 1, 20.0, overrides=shared | {"trainer.learning_rate": "0.01"})
    write_run("warmup", 1, 30.0, overrides=shared, model="tiny_mt5")  # alone of its kind: no words needed
    assert table_lines(markdown_table(write_comparison(tmp_path / "runs"))) == [
        "| translation de-en | tiny_mt5 | BLEU | – | 30.00 | – | 0/1 |",
        "| translation de-en | tiny_t5 (learning_rate default) | BLEU | 10.00 | 11.00 | +1.00 | 1 |",
        "| translation de-en | tiny_t5 (learning_rate 0.01) | BLEU | 20.00 | – | – | 1/0 |",
    ]


def test_data_and_split_are_named_where_they_differ(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("sft", 1, 20.0, data="hub", split="validation")
    models = [line.split(" | ")[1] for line in table_lines(markdown_table(write_comparison(tmp_path / "runs")))]
    assert models == ["tiny_t5 (data hub, split validation)", "tiny_t5 (data toy, split test)"]


def test_chance_skipped_metrics_and_invalid_answers(write_run: Write, tmp_path: Path) -> None:
    chance = {"accuracy": {"uniform": 25.0, "majority": 27.5}}
    scores = {"accuracy": {"value": 33.0, "signature": "accuracy|labels:A,B,C,D"}}
    logiqa: dict[str, Any] = {"task": "logiqa", "scores": scores, "chance": chance}
    write_run("sft", 1, **logiqa, invalid_answers=0.0)
    write_run("warmup", 1, **logiqa, invalid_answers=0.125)
    write_run("sft", 1, 10.0, skipped={"comet": "COMET: no network"})
    text = markdown_table(write_comparison(tmp_path / "runs"))
    assert table_lines(text) == [
        "| logiqa | tiny_t5 | accuracy | 33.00 | 33.00 | 0.00 | 25.0/27.5 | 1 |",
        "| translation de-en | tiny_t5 | BLEU | 10.00 | – | – | – | 1/0 |",
    ]
    assert "Chance: guessing every label alike / always giving the most frequent label." in text
    assert "- Answers that are no label, counted as wrong: warmup 12.5% (logiqa, tiny_t5)." in text
    assert "- Skipped: COMET in 1 run: COMET: no network" in text


def test_unlike_tests_and_signatures_are_pointed_out(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    other = {"bleu": {"value": 11.0, "signature": "nrefs:1|tok:zh"}}
    write_run("warmup", 1, scores=other, examples=100)
    text = markdown_table(write_comparison(tmp_path / "runs"))
    assert "Not the same test: translation de-en, tiny_t5 was scored on 100 and 200 examples." in text
    assert "Not the same metric: BLEU of translation de-en, tiny_t5 has 2 signatures." in text


def test_failed_runs_are_listed_with_their_reason(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    (tmp_path / "runs" / "failed").mkdir()
    (tmp_path / "runs" / "failed" / "error.txt").write_text("the disk is full\n", encoding="utf-8")
    assert failed_runs(tmp_path / "runs") == [(tmp_path / "runs" / "failed", "the disk is full")]
    assert f"- Failed: {tmp_path}/runs/failed: the disk is full" in markdown_table(write_comparison(tmp_path / "runs"))
    only_failed = write_comparison(tmp_path / "runs" / "failed")
    assert only_failed.rows == [] and "No run has finished." in markdown_table(only_failed)


def test_labels_are_escaped_in_markdown(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, task="a|b <script>alert(1)</script>", model="*my_model*\n`x`")
    text = markdown_table(write_comparison(tmp_path / "runs"))
    assert table_lines(text) == [
        r"| a\|b &lt;script&gt;alert(1)&lt;/script&gt; | \*my_model\* \`x\` | BLEU | 10.00 | – | – | 1/0 |"
    ]


def test_the_printed_table_fits_80_columns_without_a_terminal(write_run: Write, tmp_path: Path) -> None:
    chance = {"bleu": {"uniform": 25.0, "majority": 27.5}}
    for seed in (1, 2):
        for method, bleu in (("sft", 33.0 + seed), ("warmup", 31.0 + 2 * seed)):
            long = {"task": "[bold]translation[/bold] de-en", "chance": chance, "model": "scratch_llama"}
            write_run(method, seed, bleu, **long, skipped={"comet": "a reason " * 20})
    output = printed(tmp_path / "runs")
    assert max(len(line) for line in output.splitlines()) <= 80
    assert "\x1b" not in output
    assert "34.50 ± 0.71" in output and "34.00 ± 1.41" in output and "-0.50" in output and "25.0/27.5" in output
    assert "[bold]" in output  # a label is shown, not obeyed
    assert "…" not in output
    assert "\x1b[31m" in printed(tmp_path / "runs", terminal=True)


def test_the_order_does_not_depend_on_the_folders(write_run: Write, tmp_path: Path) -> None:
    scores = {name: {"value": 1.0, "signature": "s"} for name in ("rougeL", "comet", "bleu", "rouge1", "chrf")}
    for folder, model in [("z", "a_model"), ("a", "b_model")]:
        write_run("sft", 1, folder=folder, model=model, scores=scores)
    rows = write_comparison(tmp_path / "runs").rows
    assert [row.model for row in rows] == ["a_model"] * 5 + ["b_model"] * 5
    assert [row.metric for row in rows[:5]] == ["bleu", "chrf", "rouge1", "rougeL", "comet"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"task": NaN}'])
def test_a_broken_record_is_named(write_run: Write, tmp_path: Path, text: str) -> None:
    run = write_run("sft", 1, 10.0)
    (run / "metrics.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=str(run / "metrics.json")):
        find_runs(tmp_path)


def test_a_score_that_is_no_number_is_refused(write_run: Write, tmp_path: Path) -> None:
    run = write_run("sft", 1, float("nan"))
    with pytest.raises(UserError, match="nan is not a number"):
        find_runs(run)


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        write_comparison(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        write_comparison(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
