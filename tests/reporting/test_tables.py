"""Comparisons of small run folders, checked against numbers computed by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.reporting.conftest import Write
from warmup.errors import UserError
from warmup.metrics.significance import compare_systems
from warmup.reporting.tables.latex import latex
from warmup.reporting.tables.layout import Line, Report, report_on
from warmup.reporting.tables.markdown import markdown
from warmup.reporting.tables.spreadsheet import spreadsheet
from warmup.reporting.tables.terminal import print_report
from warmup.runs import paired_tests
from warmup.runs.finding import find_runs


def report(folder: Path) -> Report:
    return report_on(find_runs([folder]))


def table_lines(folder: Path) -> list[str]:
    """The rows of the Markdown tables, without their headings."""
    lines = markdown(report(folder)).splitlines()
    return [line for line in lines if line.startswith("|") and "| metric |" not in line and "---" not in line]


def caption(folder: Path) -> str:
    return " ".join(report(folder).tables[0].caption)


def only_line(folder: Path) -> Line:
    (line,) = report(folder).tables[0].lines
    return line


def test_seeds_are_averaged_and_a_loss_is_shown(write_run: Write, tmp_path: Path) -> None:
    for seed, sft, warmup in [(1, 10.0, 9.0), (2, 12.0, 10.0)]:
        write_run("sft", seed, sft)
        write_run("warmup", seed, warmup)
    row = only_line(tmp_path).row
    assert row.sft and row.warmup and row.seeds == (2, 2)
    assert (row.sft.mean, row.warmup.mean, row.difference) == (11.0, 9.5, -1.5)
    assert row.sft.deviation == pytest.approx(2**0.5) and row.warmup.deviation == pytest.approx(0.5**0.5)
    text = markdown(report(tmp_path))
    assert "| task | model | metric | SFT | warmup | difference | n |" in text
    assert table_lines(tmp_path) == ["| translation de-en | tiny_t5 | BLEU | 11.00 ± 1.41 | 9.50 ± 0.71 | -1.50 | 2 |"]
    assert "- BLEU: `nrefs:1|tok:13a`" in text
    assert "mean of warmup minus mean of SFT" in text and "standard deviation over 2 seeds" in text


def test_one_seed_has_no_spread_and_unequal_counts_show(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("warmup", 1, 10.5)
    assert "One seed each" in caption(tmp_path)
    write_run("warmup", 2, 11.5)
    assert table_lines(tmp_path) == ["| translation de-en | tiny_t5 | BLEU | 10.00 | 11.00 ± 0.71 | +0.50 | 1/2 |"]
    assert "seeds of SFT/warmup" in caption(tmp_path)


def test_the_difference_and_its_interval_are_of_the_seeds_that_both_have(write_answers: Write, tmp_path: Path) -> None:
    """SFT has seeds 1 and 2, warmup seed 2, where both answer alike: nothing differs, whatever SFT's mean is."""
    write_answers("sft", 20, seed=1)
    write_answers("sft", 5, seed=2)
    write_answers("warmup", 5, seed=2)
    row = only_line(tmp_path).row
    assert row.sft and row.sft.mean == 62.5 and row.seeds == (2, 1)
    assert row.difference == 0.0 and row.test and (row.test.low, row.test.high) == (0.0, 0.0)
    assert "over the seeds that both have" in caption(tmp_path)
    note = "Not paired: seed 1 of SFT has no warmup run beside: left out of the difference (logiqa, tiny_t5)."
    assert [line for line in report(tmp_path).notes if line.startswith("Not paired")] == [note]
    (line,) = csv.DictReader(io.StringIO(spreadsheet(report(tmp_path)), newline=""))
    assert (line["sft_seeds"], line["warmup_seeds"], line["paired_seeds"]) == ("2", "1", "1")


def test_pairs_that_are_fewer_than_the_seeds_are_counted(write_run: Write, tmp_path: Path) -> None:
    for seed, sft in ((1, 0.0), (2, 10.0), (3, 20.0)):
        write_run("sft", seed, sft)
        write_run("warmup", seed + 1, sft + 12.0)
    assert table_lines(tmp_path)[0].endswith("| +2.00 | 3 (2) |")  # 12 - 10 and 22 - 20
    assert "in brackets" in caption(tmp_path)


def test_a_score_that_a_seed_lacks_is_left_out_by_name(write_run: Write, tmp_path: Path) -> None:
    both = {name: {"value": 10.0, "signature": "nrefs:1|tok:13a"} for name in ("bleu", "comet")}
    for method in ("sft", "warmup"):
        write_run(method, 1, scores=both)
    write_run("sft", 2, scores=both)
    write_run("warmup", 2, 20.0)
    assert [line.row.difference for line in report(tmp_path).tables[0].lines] == [5.0, 0.0]
    (note,) = [line for line in report(tmp_path).notes if line.startswith("Not paired")]
    assert note.endswith(
        "seed 2 of SFT has no warmup run beside: left out of the difference (COMET of translation de-en, tiny_t5)."
    )


def test_without_a_seed_in_common_there_is_no_difference(write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 5, seed=2)
    write_answers("warmup", 15, seed=1)
    assert only_line(tmp_path).row.difference is None and only_line(tmp_path).row.test is None
    assert table_lines(tmp_path) == ["| logiqa | tiny_t5 | accuracy | 25.00 | 75.00 | — | 1 (0) |"]
    assert sum("no seed in common, no difference" in note for note in report(tmp_path).notes) == 2


def test_a_missing_method_leaves_a_visible_gap(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("warmup", 1, 30.0, task="translation en-de")
    assert table_lines(tmp_path) == [
        "| translation de-en | tiny_t5 | BLEU | 10.00 | — | — | 1 |",
        "| translation en-de | tiny_t5 | BLEU | — | 30.00 | — | 1 |",
    ]
    assert "—: not run or not scored." in caption(tmp_path)


def test_a_repeated_run_is_no_second_seed(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, overrides={"seed": "1", "logger": "none", "device": "cpu"})
    newest = write_run("sft", 1, 20.0)
    write_run("warmup", 1, 21.0)
    assert table_lines(tmp_path) == ["| translation de-en | tiny_t5 | BLEU | 20.00 | 21.00 | +1.00 | 1 |"]
    note = f"translation de-en, tiny_t5, SFT, seed 1 was run 2 times; only the newest counts, {newest}."
    assert any(note in line for line in report(tmp_path).notes)


def test_a_run_that_two_folders_hold_counts_once(write_run: Write, tmp_path: Path) -> None:
    run = write_run("sft", 1, 10.0)
    found = find_runs([tmp_path, run, tmp_path / "runs"])
    assert [run.folder for run in found.runs] == [run] and found.notes == []


def test_variants_of_warmup_share_the_sft_runs(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, overrides={"method": "sft"})
    for samples, bleu in [("16", 12.0), ("4", 11.0)]:
        write_run("warmup", 1, bleu, overrides={"method.num_samples": samples, "method.baseline": "loo"})
    assert table_lines(tmp_path) == [
        "| translation de-en | tiny_t5 (num_samples 4) | BLEU | 10.00 | 11.00 | +1.00 | 1 |",
        "| translation de-en | tiny_t5 (num_samples 16) | BLEU | 10.00 | 12.00 | +2.00 | 1 |",
    ]


def test_a_default_is_named_by_its_value_where_the_configuration_tells(write_run: Write, tmp_path: Path) -> None:
    write_run("warmup", 1, 10.0, config={"method": {"num_samples": 4}})
    write_run("warmup", 1, 11.0, overrides={"method.num_samples": "2"}, config={"method": {"num_samples": 2}})
    models = [line.split(" | ")[1] for line in table_lines(tmp_path)]
    assert models == ["tiny_t5 (num_samples 2)", "tiny_t5 (num_samples 4)"]


def test_other_overrides_separate_experiments(write_run: Write, tmp_path: Path) -> None:
    shared = {"trainer.batch_size": "8"}
    write_run("sft", 1, 10.0, overrides=shared)
    write_run("warmup", 1, 11.0, overrides=shared)
    write_run("sft", 1, 20.0, overrides=shared | {"trainer.learning_rate": "0.01"})
    write_run("warmup", 1, 30.0, overrides=shared, model="tiny_mt5")  # alone of its kind: no words needed
    assert table_lines(tmp_path) == [
        "| translation de-en | tiny_mt5 | BLEU | — | 30.00 | — | 1 |",
        "| translation de-en | tiny_t5 (learning_rate default) | BLEU | 10.00 | 11.00 | +1.00 | 1 |",
        "| translation de-en | tiny_t5 (learning_rate 0.01) | BLEU | 20.00 | — | — | 1 |",
    ]


def test_data_and_split_are_named_where_they_differ(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    write_run("sft", 1, 20.0, data="hub", split="validation")
    models = [line.split(" | ")[1] for line in table_lines(tmp_path)]
    assert models == ["tiny_t5 (A)", "tiny_t5 (B)"]
    legend = ["A: data hub, split validation", "B: data toy, split test"]
    assert list(report(tmp_path).tables[0].legend) == legend
    output = io.StringIO()
    print_report(report(tmp_path), Console(file=output, width=80))
    for text in (markdown(report(tmp_path)), latex(report(tmp_path)), spreadsheet(report(tmp_path)), output.getvalue()):
        assert all(line in text for line in legend)


def test_equal_words_share_a_letter_and_long_ones_get_one(write_run: Write, tmp_path: Path) -> None:
    """Of two tasks the runs differ alike; of a third only in a path, which would push the numbers off the page."""
    changes = ({"trainer.max_steps": "5", "trainer.batch_size": "2"}, {"trainer.max_steps": "9"})
    for task in ("logiqa", "summarization"):
        for overrides in changes:
            write_run("sft", 1, 10.0, task=task, overrides=overrides)
    for overrides in ({"data.train": "/a/long/way/to/the/file/of/this/test.tsv"}, {}):
        write_run("sft", 1, 10.0, task="svamp", overrides=overrides)
    rows = {(line.row.task, line.row.detail) for line in report(tmp_path).tables[0].lines}
    assert rows >= {("logiqa", "A"), ("logiqa", "B"), ("summarization", "A"), ("summarization", "B")}
    assert ("svamp", "train default") in rows and ("svamp", "C") in rows
    assert "C: train /a/long/way/to/the/file/of/this/test.tsv" in report(tmp_path).tables[0].legend
    assert len(report(tmp_path).tables[0].legend) == 3


def test_an_evaluated_checkpoint_has_its_runs_name(write_run: Write, tmp_path: Path) -> None:
    for path in ("/tmp/out/base/model", "/tmp/out/sweep/3/model", "owner/t5", "outputs/longer_run/checkpoint-40"):
        write_run("sft", 1, 10.0, model=path, config={"run": "evaluate", "checkpoint": path})
    names = {line.row.model for line in report(tmp_path).tables[0].lines}
    assert names == {"base", "sweep/3", "owner/t5", "longer_run"}
    write_run(
        "sft", 1, 12.0, model="elsewhere/base/model", config={"run": "evaluate", "checkpoint": "elsewhere/base/model"}
    )
    details = [line.row.detail for line in report(tmp_path).tables[0].lines if line.row.model == "base"]
    assert len(set(details)) == 2  # two runs of one name are told apart


def test_chance_skipped_metrics_and_invalid_answers(write_run: Write, tmp_path: Path) -> None:
    chance = {"accuracy": {"uniform": 25.0, "majority": 27.5}}
    scores = {"accuracy": {"value": 33.0, "signature": "accuracy|labels:A,B,C,D"}}
    logiqa: dict[str, Any] = {"task": "logiqa", "scores": scores, "chance": chance}
    write_run("sft", 1, **logiqa, invalid_answers=0.0)
    write_run("warmup", 1, **logiqa, invalid_answers=0.125)
    write_run("sft", 1, 10.0, skipped={"comet": "COMET: no network"}, notes=["ROUGE: cuts 3 words"])
    assert table_lines(tmp_path) == [
        "| logiqa | tiny_t5 | accuracy | 33.00 | 33.00 | 0.00 | 25.0/27.5 | 1 |",
        "| translation de-en | tiny_t5 | BLEU | 10.00 | — | — | — | 1 |",
    ]
    assert "Chance: guessing every label alike / always giving the most frequent label." in caption(tmp_path)
    notes = report(tmp_path).notes
    assert "Answers that are no label, counted as wrong: warmup 12.5% (logiqa, tiny_t5)." in notes
    assert "Skipped: COMET in 1 run: COMET: no network" in notes
    assert notes.count("ROUGE: cuts 3 words.") == 1


def test_unlike_tests_and_signatures_are_pointed_out(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    other = {"bleu": {"value": 11.0, "signature": "nrefs:1|tok:zh"}}
    write_run("warmup", 1, scores=other, examples=100)
    assert table_lines(tmp_path) == ["| translation de-en | tiny_t5 | BLEU | 10.00 | 11.00 | — | 1 |"]
    assert report(tmp_path).notes == [
        "Not the same test: translation de-en, tiny_t5 was scored on 100 and 200 examples; no difference is given.",
        "Not the same metric: BLEU of translation de-en, tiny_t5 has 2 signatures.",
    ]


def test_other_questions_of_the_same_number_are_another_test(write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 5)
    write_answers("warmup", 15, references=["A"] * 19 + ["B"])
    assert only_line(tmp_path).row.difference is None and only_line(tmp_path).row.test is None
    assert any("scored on 2 different test sets" in note for note in report(tmp_path).notes)


def test_a_difference_is_tested_and_marked(write_answers: Write, tmp_path: Path) -> None:
    """Ten questions that only warmup has right: McNemar's exact p value is 2 / 2 ** 10."""
    write_answers("sft", 5)
    write_answers("warmup", 15)
    line = only_line(tmp_path)
    assert line.p_value == pytest.approx(2 / 2**10) and line.significant
    assert line.row.test and line.row.test.low > 0
    text = table_lines(tmp_path)[0]
    assert "| 25.00 | 75.00 | +50.00\\* | \\[" in text and "| 0.002 |" in text
    assert "*: significant at 0.05 (exact McNemar test)." in caption(tmp_path)
    assert "95% CI" in caption(tmp_path)


def test_what_is_not_significant_is_said_to_be_so(write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 10)
    write_answers("warmup", 11)
    assert only_line(tmp_path).p_value == 1.0
    assert "No difference is significant at 0.05" in caption(tmp_path) and "*:" not in caption(tmp_path)


def test_many_comparisons_are_corrected(write_answers: Write, tmp_path: Path) -> None:
    """Six questions apart: p = 2 / 2 ** 6 = 0.031, significant alone, and not beside another test (Holm: 0.063)."""
    write_answers("sft", 5)
    write_answers("warmup", 11)
    assert only_line(tmp_path).significant
    write_answers("sft", 5, model="other")
    write_answers("warmup", 5, model="other")
    lines = {line.row.model: line for line in report(tmp_path).tables[0].lines}
    assert lines["tiny_t5"].p_value == pytest.approx(2 * 2 / 2**6) and lines["other"].p_value == 1.0
    assert not lines["tiny_t5"].significant
    assert "No difference is significant at 0.05 after Holm's correction over the 2 tests" in caption(tmp_path)


def test_only_seeds_of_both_methods_are_tested(write_answers: Write, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_answers("sft", 5, seed=seed)
    for seed in (2, 3, 4):
        write_answers("warmup", 15, seed=seed)
    test = only_line(tmp_path).row.test
    assert test and test.seeds == 2 and test.examples == 20


@pytest.mark.parametrize("damage", ["missing", "cut off", "null", "edited"])
def test_a_test_that_cannot_be_made_is_said(write_answers: Write, tmp_path: Path, damage: str) -> None:
    write_answers("sft", 5)
    run = write_answers("warmup", 15)
    answers = run / "predictions.jsonl"
    if damage == "missing":
        answers.unlink()
    elif damage == "cut off":
        answers.write_text(answers.read_text()[:-30])
    elif damage == "null":
        answers.write_text(answers.read_text().replace('"prediction": "B"', '"prediction": null'))
    elif damage == "edited":
        answers.write_text(answers.read_text().replace('"prediction": "B"', '"prediction": "A"'))
    assert only_line(tmp_path).row.test is None and only_line(tmp_path).row.difference == 50.0
    words = {"missing": "cannot be read", "cut off": "does not hold", "null": "does not hold"}
    words["edited"] = "score 100.00, not the recorded 75.00"
    notes = [note for note in report(tmp_path).notes if note.startswith("Not tested: accuracy of logiqa, tiny_t5: ")]
    assert len(notes) == 1 and words[damage] in notes[0]


def test_rouge_is_tested_over_the_scores_of_each_example(write_run: Write, tmp_path: Path) -> None:
    for method, value in [("sft", 30.0), ("warmup", 50.0)]:
        scores = {"rouge1": {"value": value, "signature": "rouge"}}
        run = write_run(method, answers=["x"] * 8, scores=scores, task="summarization")
        (run / "segment_scores.json").write_text(json.dumps({"rouge1": [value] * 8}))
    line = only_line(tmp_path)
    assert line.row.test and (line.row.test.low, line.row.test.high) == (20.0, 20.0)
    (run / "segment_scores.json").unlink()
    assert only_line(tmp_path).row.test is None


def test_bad_run_folders_cost_a_line_and_not_the_table(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    for name, text in [("cut", '{"task": '), ("list", "[]"), ("old", '{"task": "logiqa"}')]:
        (write_run("sft", 1, folder=name) / "metrics.json").write_text(text)
    write_run("sft", 1, float("nan"), folder="nan")
    write_run("dpo", 1, 1.0, folder="other_method")
    (tmp_path / "runs" / "failed").mkdir()
    (tmp_path / "runs" / "failed" / "error.txt").write_text("the disk\x1b[31m is\nfull\n", encoding="utf-8")
    (tmp_path / "runs" / "half").mkdir()
    (tmp_path / "runs" / "half" / "config.yaml").write_text("run: all\n")
    (tmp_path / "runs" / "trained_only").mkdir()
    (tmp_path / "runs" / "trained_only" / "config.yaml").write_text("run: train\n")
    scored = write_run("sft", folder="scored", config={"run": "score"})
    (scored / "metrics.json").write_text('{"run": "score"}')
    assert table_lines(tmp_path) == ["| translation de-en | tiny_t5 | BLEU | 10.00 | — | — | 1 |"]
    notes = report(tmp_path).notes
    for name in ("cut", "list", "old", "nan", "other_method", "half", "failed"):
        assert sum(f"runs/{name}" in note for note in notes) == 1, (name, notes)
    assert len(notes) == 7
    assert f"Failed: {tmp_path}/runs/failed: the disk [31m is full" in notes


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        report(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        report(tmp_path / "missing")
    (tmp_path / "error.txt").write_text("out of memory")
    assert "No run has finished." in markdown(report(tmp_path))
    output = io.StringIO()
    print_report(report(tmp_path), Console(file=output, width=300))
    assert "No run has finished." in output.getvalue() and "out of memory" in output.getvalue()


def test_the_order_does_not_depend_on_the_folders(write_run: Write, tmp_path: Path) -> None:
    scores = {name: {"value": 1.0, "signature": "s"} for name in ("rougeL", "comet", "bleu", "rouge1", "chrf")}
    for folder, model in [("z", "a_model"), ("a", "b_model")]:
        write_run("sft", 1, folder=folder, model=model, scores=scores)
    rows = [line.row for line in report(tmp_path).tables[0].lines]
    assert [row.model for row in rows] == ["a_model"] * 5 + ["b_model"] * 5
    assert [row.metric for row in rows[:5]] == ["bleu", "chrf", "rouge1", "rougeL", "comet"]


def test_a_test_is_made_once_for_the_same_answers(
    write_answers: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_answers("sft", 5)
    run = write_answers("warmup", 15)
    first = only_line(tmp_path).row.test
    made = []

    def compare(*arguments: Any) -> Any:
        made.append(arguments)
        return compare_systems(*arguments)

    monkeypatch.setattr(paired_tests, "compare_systems", compare)
    assert only_line(tmp_path).row.test == first and made == []
    (kept,) = (tmp_path / "cache").rglob("*.json")
    for text in ("{", "[]", '{"score": "accuracy"}', kept.read_text().replace('"score": "accuracy"', '"score": "x"')):
        kept.write_text(text)
        assert only_line(tmp_path).row.test == first
    assert len(made) == 4
    answers = run / "predictions.jsonl"
    answers.write_text("".join(reversed(answers.read_text().splitlines(keepends=True))))
    other = only_line(tmp_path).row.test
    assert len(made) == 5 and other and first and other.p_value != first.p_value
