"""Data sets of the hub's layout in local folders, and the errors of the real hub in one line."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from warmup.config.schema import HubData, HubSplit, OptionsConfig, TaskConfig
from warmup.data import hub
from warmup.data.load import load_splits
from warmup.errors import UserError

PAIR = [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]
TRANSLATION = TaskConfig(
    name="translation",
    source_template="{source_language}: {source}",
    target_template="{target}",
    source_language="de",
    target_language="en",
)
LOGIQA = TaskConfig(
    name="logiqa",
    source_template="{question} {options} {text}",
    target_template="{answer}",
    options=OptionsConfig("options", "answer", ["A", "B", "C", "D"]),
)
XSUM = TaskConfig(name="summarization", source_template="summarize: {document}", target_template="{summary}")


@pytest.fixture(autouse=True)
def _cache_in_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(hub, "hub_answers", lambda: False)  # no test asks the network


@pytest.fixture
def wmt(tmp_path: Path) -> str:
    """A folder of two configurations, as wmt/wmt14 has them."""
    for split in ("train", "validation"):
        (tmp_path / "wmt" / "de-en").mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame({"translation": PAIR})
        frame.to_parquet(tmp_path / "wmt" / "de-en" / f"{split}-00000-of-00001.parquet")
    files = [f"  - split: {split}\n    path: de-en/{split}-*\n" for split in ("train", "validation")]
    configs = [f"- config_name: {name}\n  data_files:\n{''.join(files)}" for name in ("de-en", "fr-en")]
    (tmp_path / "wmt" / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    return str(tmp_path / "wmt")


def error_of(split: HubSplit) -> str:
    with pytest.raises(UserError) as caught:
        list(hub.read_hub(split, "data.train"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wmt_for_training_and_flores_for_testing(wmt: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flores = tmp_path / "flores" / "de-en"
    flores.mkdir(parents=True)
    pd.DataFrame({"de-en": [{"de": "drei", "en": "three"}]}).to_parquet(flores / "test-00000-of-00001.parquet")
    fields = {"source": "translation.de", "target": "translation.en"}
    data = HubData(
        train=HubSplit(path=wmt, name="de-en", split="train[:1]", fields=fields),
        validation=HubSplit(path=wmt, name="de-en", split="validation", fields=fields),
        test=HubSplit(path=str(flores), split="test", fields={"source": "de-en.de", "target": "de-en.en"}),
        max_validation_examples=1,
    )
    splits = load_splits(TRANSLATION, data)
    assert [(e.source, e.prompt, e.target) for e in splits.train] == [("eins", "German: eins", "one")]
    assert len(splits.validation) == 1
    assert [(e.source, e.target) for e in splits.test] == [("drei", "three")]
    assert "".join(capfd.readouterr()) == ""  # neither progress bars nor the library's messages


def test_xsum_with_its_empty_documents(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"document": d, "summary": "s", "id": str(n)} for n, d in enumerate(["one", "", " \n", "four"])]
    pd.DataFrame(rows).to_parquet(tmp_path / "test.parquet")
    data = HubData(test=HubSplit(path=str(tmp_path), split="test"), max_test_examples=2)
    assert [example.source for example in load_splits(XSUM, data, ["test"]).test] == ["one", "four"]
    assert "2 records without text were skipped" in caplog.text
    assert "record 2" in caplog.text


def test_logiqa_as_json_lines(tmp_path: Path) -> None:
    row = {"text": "t", "question": "q", "options": ["w", "x", "y", "z"], "answer": 3, "type": {"a": True}}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    data = HubData(train=HubSplit(path=str(tmp_path)))
    (example,) = load_splits(LOGIQA, data, ["train"]).train
    assert (example.prompt, example.target) == ("q A) w B) x C) y D) z t", "D")


def test_a_wrong_configuration_split_or_column_names_what_there_is(wmt: str) -> None:
    assert error_of(HubSplit(path=wmt, name="de-em")) == (
        "data.train.name is 'de-em'; allowed: de-en, fr-en; did you mean 'de-en'?"
    )
    assert "data.train.name is not set" in error_of(HubSplit(path=wmt))
    assert "de-en, fr-en" in error_of(HubSplit(path=wmt))
    assert error_of(HubSplit(path=wmt, name="de-en", split="valid")) == (
        "data.train.split is 'valid'; allowed: train, validation; did you mean 'validation'?"
    )
    assert "'train[:1000]'" in error_of(HubSplit(path=wmt, name="de-en", split="train[:x]"))
    split = HubSplit(path=wmt, name="de-en", fields={"source": "translation.dd", "target": "translation.en"})
    with pytest.raises(UserError, match="no column 'translation.dd', as data.train.fields has it, only de, en"):
        load_splits(TRANSLATION, HubData(train=split), ["train"])
    with pytest.raises(UserError, match="data.train.fields='{source: COLUMN}'"):
        load_splits(TRANSLATION, HubData(train=HubSplit(path=wmt, name="de-en")), ["train"])


def rows(split: HubSplit) -> list[dict[str, Any]]:
    return [record for record, _ in hub.read_hub(split, "data.train")]


def numbered(count: int, **info: Any) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"source": f"s{n}", "target": f"t{n}"} for n in range(count)], **info)


def leave_a_cache_file(folder: Path) -> None:
    """As any later `map` leaves it beside the data."""
    datasets.load_from_disk(str(folder)).map(lambda record: {"source": record["source"] + " changed"})
    assert list(folder.glob("cache-*.arrow"))


def test_a_saved_data_set_is_read_without_its_cache_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    numbered(32).save_to_disk(tmp_path / "one", num_shards=3)  # more data than state files, as large sets have
    leave_a_cache_file(tmp_path / "one")
    capfd.readouterr()
    data = HubData(train=HubSplit(path=str(tmp_path / "one")))
    task = TaskConfig(name="custom", source_template="{source}", target_template="{target}")
    examples = load_splits(task, data, ["train"]).train
    assert [(e.source, e.target) for e in examples] == [(f"s{n}", f"t{n}") for n in range(32)]
    assert "".join(capfd.readouterr()) == ""
    assert [row["source"] for row in rows(HubSplit(path=str(tmp_path / "one"), split="train[-2:]"))] == ["s30", "s31"]
    assert error_of(HubSplit(path=str(tmp_path / "one"), split="test")) == (
        "data.train.split is 'test'; allowed: train"  # never the rows of another split under this name
    )
    numbered(2, split=datasets.Split.TEST).save_to_disk(tmp_path / "test")
    assert len(rows(HubSplit(path=str(tmp_path / "test"), split="test"))) == 2
    assert "allowed: test" in error_of(HubSplit(path=str(tmp_path / "test"), split="train"))


def test_a_saved_dictionary_has_splits_and_parts_of_them(tmp_path: Path) -> None:
    folder = str(tmp_path / "both")
    parts = {"train": numbered(40), "test": numbered(3, info=datasets.DatasetInfo(config_name="de-en"))}
    datasets.DatasetDict(parts).save_to_disk(folder)
    leave_a_cache_file(tmp_path / "both" / "train")
    assert rows(HubSplit(path=folder)) == list(parts["train"])
    assert rows(HubSplit(path=folder, split="train[:10%]+test[1:]", name="de-en")) == [
        {"source": f"s{n}", "target": f"t{n}"} for n in (0, 1, 2, 3, 1, 2)
    ]
    assert error_of(HubSplit(path=folder, split="tests")) == (
        "data.train.split is 'tests'; allowed: train, test; did you mean 'test'?"
    )
    assert "'train[:1000]'" in error_of(HubSplit(path=folder, split="train[:x]"))
    assert "data.train.name is 'fr-en'; allowed: de-en, null" in error_of(HubSplit(path=folder, name="fr-en"))
    assert len(rows(HubSplit(path=f"{folder}/train"))) == 40
    (tmp_path / "both" / "dataset_dict.json").unlink()
    assert f"name one of them, as in data.train.path={folder}/train" in error_of(HubSplit(path=folder))
    (tmp_path / "both" / "train" / "dataset_info.json").unlink()
    assert "was written by save_to_disk and cannot be read" in error_of(HubSplit(path=f"{folder}/train"))


def test_cache_files_among_plain_data_files_are_not_read(tmp_path: Path) -> None:
    numbered(2).save_to_disk(tmp_path / "saved")
    (shard,) = (tmp_path / "saved").glob("*.arrow")
    (tmp_path / "plain").mkdir()
    plain = str(tmp_path / "plain")
    shard.rename(f"{plain}/train.arrow")
    shutil.copy(f"{plain}/train.arrow", f"{plain}/cache-0a1b.arrow")
    assert len(rows(HubSplit(path=plain))) == 2  # the name of a split leaves the others out
    os.rename(f"{plain}/train.arrow", f"{plain}/pairs.arrow")
    assert "cache-0a1b.arrow, a cache file of the datasets library" in error_of(HubSplit(path=plain))


def test_a_folder_of_parquet_with_an_empty_first_row_group(tmp_path: Path) -> None:
    table = pa.table({"source": ["a", "b"], "target": ["c", "d"]})
    with parquet.ParquetWriter(tmp_path / "train.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    assert rows(HubSplit(path=str(tmp_path), split="train[:1]")) == [{"source": "a", "target": "c"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not hold the library's cache too."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize(
    ("name", "content", "records"),
    [
        ("train.csv", 'a,b,,\r\n007,NA,,\r\n"x\ry",1.0,,\r\n', [{"a": "007", "b": "NA"}, {"a": "x\ry", "b": "1.0"}]),
        ("train.txt", "eins\rzwei\r\n\u2028drei\n", [{"text": "eins\rzwei"}, {"text": "\u2028drei"}]),
        ("train.jsonl", f'{{"a": {"7" * 5000}, "b": "0"}}\n{{"b": 1}}', [{"a": "7" * 5000, "b": "0"}, {"b": 1}]),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_a_folder_are_read_as_local_files_are(
    folder: Path, name: str, content: str, records: list[dict[str, Any]], zipped: bool
) -> None:
    data = content.encode()
    (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    assert list(hub.read_hub(HubSplit(path=str(folder)), "data.train")) == [
        (record, f"{folder}/{name}, line {number}")
        for number, record in enumerate(records, start=2 if name == "train.csv" else 1)
    ]
    (folder / "test.txt" if name == "train.txt" else folder / name.replace("train", "test")).write_bytes(data)
    assert rows(HubSplit(path=str(folder), split="train[1:]+test[:50%]")) == [records[1], records[0]]
    assert "data.train.split is 'tset'; allowed: train, test" in error_of(HubSplit(path=str(folder), split="tset"))


def test_a_broken_file_of_a_folder_is_named_with_its_line(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b\n1,2\n1,2,3\n")  # the library takes the first column for row names
    message = error_of(HubSplit(path=str(folder)))
    assert message.startswith(f"data.train.path={folder} cannot be read: {folder}/train.csv, line 3: 3 values")


def test_a_folder_whose_readme_sets_a_separator(folder: Path) -> None:
    (folder / "pairs.csv").write_text("a;b\n1,5;x\n")
    (folder / "README.md").write_text('---\nconfigs:\n- config_name: c\n  data_files: pairs.csv\n  sep: ";"\n---\n')
    assert rows(HubSplit(path=str(folder))) == [{"a": "1,5", "b": "x"}]


def test_what_is_loaded_is_not_reported_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[bool] = []

    def load_dataset(*arguments: Any, **options: Any) -> list[Any]:
        reported.append(datasets.config.HF_UPDATE_DOWNLOAD_COUNTS)
        return []

    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert rows(HubSplit(path="a/b")) == []
    assert reported == [False]
    assert datasets.config.HF_UPDATE_DOWNLOAD_COUNTS  # the setting is the user's again


def test_folders_that_hold_no_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no folder of that name with data files" in error_of(HubSplit(path=str(tmp_path / "empty")))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "old.py").write_text("")
    assert "loading script" in error_of(HubSplit(path=str(tmp_path / "old")))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.jsonl").write_text("{bad\n")
    assert "cannot be read" in error_of(HubSplit(path=str(tmp_path / "bad")))
    assert "data=local" in error_of(HubSplit(path=str(tmp_path / "bad" / "train.jsonl")))
    assert "data.train.path is not set" in error_of(HubSplit())


@pytest.mark.parametrize("said_by_the_user", [True, False])
def test_without_a_network_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, said_by_the_user: bool) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", said_by_the_user)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", said_by_the_user)
    message = error_of(HubSplit(path="EdinburghNLP/xsum", split="test"))
    assert all(cure in message for cure in ("out of reach", "data=toy", "data=local data.train=FILE", "HF_HUB_OFFLINE"))
    assert constants.HF_HUB_OFFLINE is said_by_the_user  # put back


def test_without_a_network_a_cached_copy_is_used(wmt: str, tmp_path: Path) -> None:
    datasets.load_dataset(wmt, "de-en", split="train")
    (built,) = (tmp_path / "cache").glob("wmt/de-en/0.0.0/*/dataset_info.json")
    cached = tmp_path / "cache" / "org___wmt" / "de-en" / "0.0.0"  # where a download of org/wmt would lie
    cached.mkdir(parents=True)
    built.parent.rename(cached / ("0" * 40))
    rows = list(hub.read_hub(HubSplit(path="org/wmt", name="de-en"), "data.train"))
    assert rows[1] == ({"translation": PAIR[1]}, "org/wmt (de-en, train), record 2")
    assert "all that is cached" in error_of(HubSplit(path="org/wmt", name="fr-en"))


def failing(error: Exception) -> Callable[..., Any]:
    def load_dataset(*arguments: Any, **options: Any) -> Any:
        raise error

    return load_dataset


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub. Visit the page"),
            "huggingface-cli login",
        ),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"), "no such data set"),
        (RuntimeError("Dataset scripts are no longer supported, but found b.py"), "choose a Parquet one"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), "data=toy"),
        (ValueError("something\nof many lines"), "cannot be read: ValueError: something of many lines"),
    ],
)
def test_what_the_hub_answers(monkeypatch: pytest.MonkeyPatch, error: Exception, cure: str) -> None:
    monkeypatch.setattr(datasets, "load_dataset", failing(error))
    message = error_of(HubSplit(path="a/b"))
    assert message.startswith("data.train.path=a/b")
    assert cure in message


def test_the_network_is_asked_once_and_not_when_told_to_stay_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append(url)
            raise OSError("no route")

    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    monkeypatch.setattr(datasets, "load_dataset", failing(ConnectionError("no")))
    error_of(HubSplit(path="a/b"))
    assert asked == [constants.ENDPOINT]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error_of(HubSplit(path="a/b"))
    assert asked == [constants.ENDPOINT]
