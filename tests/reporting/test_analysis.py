"""The analysis of warmups against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reporting.conftest import Write, write_predictions
from warmup.reporting.page.analysis_grids import grids, markdown_analysis
from warmup.reporting.page.warmup_statistics import analyse, correlation, distinct
from warmup.runs.finding import find_runs
from warmup.runs.paired_examples import pair_examples, partners, words

LINES = [  # source, warmup, prediction, reference
    ("the cat sleeps", "die Katze, the", "die Katze", "die Katze schläft"),
    ("a dog", "Hund Hund", "ein Hund", "ein Hund"),
    ("a bird", "", "x", "ein Vogel"),
    ("a dog", "die Katze, the", "Hund", "ein Hund"),
]


@pytest.fixture
def pair(write_run: Write) -> tuple[Path, Path]:
    runs = [
        write_run(method, 1, 10.0, method, examples=4, selection_metric="accuracy", config={"method": {"name": method}})
        for method in ("sft", "warmup")
    ]
    write_predictions(runs[1], LINES)
    shuffled = [LINES[i] for i in (3, 2, 0, 1)]  # paired by source, wherever it stands
    right = ["ein Hund", "ein Vogel", "nein", "nein"]
    write_predictions(runs[0], [(s, None, p, r) for (s, _, _, r), p in zip(shuffled, right, strict=True)])
    return runs[0], runs[1]


def test_words_are_lower_case_without_punctuation_and_characters_where_there_are_no_spaces() -> None:
    assert words("Die Katze, schläft! x_1") == ["die", "katze", "schläft", "x_1"]
    assert words("GPU 猫が いる ไทย") == ["gpu", "猫", "が", "い", "る", "ไ", "ท", "ย"]
    assert words("हिन्दी ?!") == ["हिन्दी"]


def test_shares_lengths_and_frequencies(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run, sft = partners(find_runs([tmp_path / "runs"]).runs)[0]
    assert sft is not None and (run.folder, sft.folder) == (pair[1], pair[0])
    found = analyse(pair_examples(run, sft))
    # words: die katze the | hund hund | - | die katze the
    assert found["length_words"] == pytest.approx(8 / 4) and found["without_words"] == 0.25
    assert found["in_source"] == pytest.approx(1 / 8)
    assert found["in_reference"] == pytest.approx(4 / 8)
    assert found["in_reference_only"] == pytest.approx(4 / 8)
    assert found["in_other_reference"] == pytest.approx(2 / 8)  # the last one's neighbour is the first
    assert found["distinct"]["1"] == pytest.approx(4 / 8)
    assert found["most_frequent"][0] == {"warmup": "die Katze, the", "count": 2, "share": 0.5}
    assert found["different_warmups"] == pytest.approx(3 / 4)


def test_gains_are_paired_by_source_and_repeated_sources_in_turn(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run, sft = partners(find_runs([tmp_path / "runs"]).runs)[0]
    paired = pair_examples(run, sft)
    assert paired.sft_predictions == ["nein", "ein Hund", "ein Vogel", "nein"]
    assert paired.gains == [0.0, 0.0, -100.0, 0.0]
    assert analyse(paired)["gain"] == {
        "score": "accuracy",
        "examples": 4,
        "mean": -25.0,
        "better": 0.0,
        "equal": 0.75,
        "worse": 0.25,
    }


def test_stored_segment_scores_are_preferred(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[1] / "segment_scores.json").write_text(json.dumps({"accuracy": [1.0, 2.0, 3.0, 4.0]}))
    run, sft = partners(find_runs([tmp_path / "runs"]).runs)[0]
    assert pair_examples(run, sft).gains == [1.0, -98.0, -97.0, 4.0]


@pytest.mark.parametrize(
    ("task", "sft_answer", "reference", "gain"),
    [
        ("translation en-de", "ein Hund läuft", "ein Hund", 50.0),  # one word of two too many
        ("translation en-zh", "狗跑了", "狗跑", 50.0),  # one character of two
    ],
)
def test_a_gain_is_for_the_better_whichever_way_the_score_goes(
    write_run: Write, tmp_path: Path, task: str, sft_answer: str, reference: str, gain: float
) -> None:
    for method, answer, warmup in (("sft", sft_answer, None), ("warmup", reference, "w")):
        run = write_run(method, 1, folder=method, task=task, examples=1, selection_metric="ter")
        write_predictions(run, [("a dog", warmup, answer, reference)])
    run, sft = partners(find_runs([tmp_path / "runs"]).runs)[0]
    paired = pair_examples(run, sft)
    assert paired.score == "ter" and paired.gains == [gain]
    assert "↓, where smaller is better" in markdown_analysis([analyse(paired)])


def test_correlation_is_pearsons_and_spearmans_or_a_reason() -> None:
    found = correlation([0.0, 0.5, 1.0, None], [1.0, 2.0, 9.0, 5.0])
    assert found["examples"] == 3
    assert found["pearson"] == pytest.approx(0.9176629) and found["spearman"] == pytest.approx(1.0)
    assert "overlap is the same" in correlation([0.5, 0.5, 0.5], [1.0, 2.0, 3.0])["reason"]
    assert "no SFT run" in correlation([0.5, 0.5, 0.5], [None, None, None])["reason"]


def test_distinct_counts_ngrams_over_all_rows() -> None:
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct([["a"]], 2) is None


def test_the_effect_of_replaced_warmups_is_shown(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run, sft = partners(find_runs([tmp_path / "runs"]).runs)[0]
    assert "not evaluated" in markdown_analysis([analyse(pair_examples(run, sft))])
    effect = {
        "examples": 4,
        "same_warmup": 0.0,
        "warmups": {
            name: {"scores": {"accuracy": value}, "changed": changed, "target_nll": value / 10}
            for name, value, changed in (("own", 50.0, 0.0), ("shuffled", 25.0, 0.5), ("empty", 12.5, 1.0))
        },
    }
    (pair[1] / "warmup_analysis.json").write_text(json.dumps(effect))
    shown = markdown_analysis([analyse(pair_examples(run, sft))])
    assert "accuracy | 50.00 | 25.00 | — | — | — | 12.50 |" in shown  # as runs were that knew three kinds
    assert "target NLL | 5.00 | 2.50 | — | — | — | 1.25 |" in shown
    assert "answers changed | — | 50.0% | — | — | — | 100.0% |" in shown
    kinds = ("own", "shuffled", "random", "constant", "source_start", "empty")
    p_values = {"shuffled": 0.04, "random": 0.001, "constant": 0.011, "source_start": 0.9, "empty": 0.012}
    effect["warmups"] = {
        kind: {"scores": {"accuracy": 50.0}, "changed": 0.0, "target_nll": 1.0}
        | ({"p_values": {"accuracy": p_values[kind]}} if kind in p_values else {})
        for kind in kinds
    }
    (pair[1] / "warmup_analysis.json").write_text(json.dumps(effect))
    shown = markdown_analysis([analyse(pair_examples(run, sft))])
    assert "accuracy | 50.00 | 50.00 | 50.00* | 50.00* | 50.00 | 50.00* |" in shown.replace("\\*", "*")


def test_warmups_are_escaped_in_markdown(write_run: Write, tmp_path: Path) -> None:
    write_predictions(write_run("warmup", 1, 10.0, examples=1), [("s", "<b>|x|</b>", "p", "r")])
    (run, sft), *_ = partners(find_runs([tmp_path / "runs"]).runs)
    assert r"&lt;b&gt;\|x\|&lt;/b&gt;" in markdown_analysis([analyse(pair_examples(run, sft))])
    assert grids([]) == []
