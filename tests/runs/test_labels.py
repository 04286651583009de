"""What tables call a run's data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.composing import configured
from warmup.runs.labels import labels_of


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("{folder}/train.jsonl", "news"),
        ("${{oc.env:CORPUS}}/train.jsonl", "CORPUS"),
        ("${{oc.env:CORPUS,../shared/data/news}}/train.jsonl", "CORPUS"),
        ("${{oc.env:CORPUS,../shared/data/news}}/deeper/train.jsonl", "deeper"),
    ],
)
def test_data_are_called_by_their_folder_or_by_the_variable_that_names_it(
    written: str, label: str, tmp_path: Path
) -> None:
    """Never by what the variable holds, nor by pieces of the interpolation."""
    folder = tmp_path / "news"
    folder.mkdir()
    (folder / "train.jsonl").touch()
    config = configured("task=summarization", "data=local", f"data.train={folder}/train.jsonl")
    read = dict.fromkeys(("train", "train_source", "test", "test_source")) | {"train": written.format(folder=folder)}
    described = {"data": read, "checkpoint": None, "model": {"name": "m"}}
    assert labels_of(config, described, "sft")["data"] == label
