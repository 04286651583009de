"""The printed scores: signatures beside numbers, reasons beside gaps, and text from data that stays text."""

from __future__ import annotations

from rich.console import Console

from tests.metrics.scoring import scored
from warmup.reporting.tables.scores import print_scores


def printed(metrics: list[str], predictions: list[str], references: list[str]) -> str:
    console = Console(width=200, record=True, quiet=False, highlight=False)
    print_scores(scored(metrics, predictions, references, None, None), console)
    return console.export_text()


def test_labels_are_printed_with_signature_chance_and_invalid_share() -> None:
    text = printed(["accuracy", "macro_f1"], ["A", "B", "X", "D"], ["A", "B", "C", "D"])
    accuracy, macro_f1 = (line for line in text.splitlines() if "labels:A,B,C,D" in line)
    assert "75.00" in accuracy and "75.00" in macro_f1 and "scikit-learn:1" in macro_f1
    assert "chance, accuracy: 25.00 (every label alike), 25.00 (always the most frequent)" in text
    assert "25.0 % of the answers are no label" in text


def test_a_metric_without_a_number_is_printed_with_its_reason() -> None:
    text = printed(["bleu", "comet"], ["a"], ["a"])
    comet = next(line for line in text.splitlines() if line.startswith("COMET"))
    assert "skipped" in comet and "sources=FILE" in comet and "0.00" not in comet


def test_what_a_score_does_not_see_is_printed() -> None:
    assert "3 of 3 words of the references" in printed(["rouge"], ["Über"], ["Über schöne Wälder"])


def test_labels_that_look_like_markup_stay_text() -> None:
    assert "labels:[red]x[/red],b" in printed(["accuracy"], ["b", "b"], ["[red]x[/red]", "b"])
