"""Sizes of what is split off, columns where there are none, and the spaces of options, each by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.test_examples import LOGIQA, QUESTION
from tests.data.test_load import SUMMARIZATION
from warmup.config.data import needed_splits
from warmup.config.schema import LocalData
from warmup.data.examples import Example
from warmup.data.load import load_splits, split_off
from warmup.data.texts import listing


@pytest.mark.parametrize(("count", "fraction", "size"), [(16, 0.1, 2), (14, 0.1, 1), (3, 0.5, 2), (10, 0.0, 0)])
def test_a_fraction_is_rounded(count: int, fraction: float, size: int) -> None:
    parts = split_off([Example(str(n), str(n), "y") for n in range(count)], {"test": fraction}, seed=0)
    assert (len(parts["test"]), len(parts["train"])) == (size, count - size)


def test_lines_of_text_have_no_columns_to_choose_from(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_text("long text\n")
    (tmp_path / "a.sum").write_text("text\n")
    data = LocalData(
        test_source=str(tmp_path / "a.doc"), test_target=str(tmp_path / "a.sum"), fields={"document": "body"}
    )
    assert load_splits(SUMMARIZATION, data, ["test"]).test[0].source == "long text"


def test_options_are_written_without_the_spaces_around_them() -> None:
    spaced = {**QUESTION, "options": [" one", "two ", "\tthree\n", "four"]}
    assert LOGIQA.example(spaced, "here") == LOGIQA.example(QUESTION, "here")


def test_training_alone_needs_no_test_split() -> None:
    assert needed_splits("train") == ("train", "validation") and needed_splits("evaluate") == ("test",)


def test_a_list_of_names_is_cut_and_says_how_many_there_were() -> None:
    assert listing("abc", limit=2) == "a, b and 1 more" and listing("ab", limit=2) == "a, b" and listing([]) == "none"
