"""Training on a stream: every example once in a pass, the same order each time, and no more read than is needed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from accelerate import skip_first_batches

from tests.conftest import TEXTS
from tests.data.test_load import CUSTOM
from warmup.config.schema import HubData, HubSplit
from warmup.data import hub, stored
from warmup.data.examples import Example
from warmup.data.load import load_splits
from warmup.data.streams import ExampleStream
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import Collator, TextReader
from warmup.training import streamed
from warmup.training.batches import EpochLoader, SharedBatches
from warmup.training.streamed import EncodedStream

LIMITS = Limits(source=60, warmup=None, target=60)
Batches = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _small_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SMALLEST_WINDOW", 10)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "hub_answers", lambda: False)


def counted(texts: Sequence[str], read: list[str]) -> ExampleStream:
    """A stream of `texts`; `read` grows by each that is read."""

    def opened() -> Iterator[Example]:
        for text in texts:
            read.append(text)
            yield Example(text, text, text)

    return ExampleStream("it", opened, "digest")


def texts(count: int) -> list[str]:
    words = sorted({*" ".join(TEXTS).split()})
    return [f"{' '.join(words[: n % 7])} {n}" for n in range(count)]


def loader(
    backbone: Backbone, stream: ExampleStream, count: int, *shared: int, group: bool = True, workers: int = 0
) -> EpochLoader:
    data = EncodedStream(stream, TextReader.of(backbone), LIMITS, count)
    batches = SharedBatches(data.order(4, group, seed=3), 4, *(shared or (1, 0)))
    return EpochLoader(data, batch_sampler=batches, collate_fn=Collator(backbone), num_workers=workers)


def rows(batches: Any) -> Batches:
    return [{name: value.tolist() for name, value in batch.items()} for batch in batches]


def labels(batches: Batches) -> Counter[tuple[int, ...]]:
    return Counter(tuple(id for id in row if id >= 0) for batch in batches for row in batch["labels"])


@pytest.mark.parametrize("group", [True, False])
def test_each_pass_has_every_example_once_in_another_order(make_backbone: Callable[..., Backbone], group: bool) -> None:
    backbone, read = make_backbone("t5"), list[str]()
    found = rows(loader(backbone, counted(texts(24), read), 48, group=group))
    assert len(found) == 12 and [len(batch["labels"]) for batch in found] == [4] * 12
    assert read == texts(24) * 2  # not one more
    assert labels(found[:6]) == labels(found[6:]) and set(labels(found[:6]).values()) == {1}
    assert found[:6] != found[6:]
    assert labels(found[:3]) != labels(found[3:6])  # windows of twelve
    in_order = rows(loader(backbone, counted(texts(24), []), 48, group=group))
    assert found == in_order


def test_no_more_is_read_than_the_window_of_a_step(make_backbone: Callable[..., Backbone]) -> None:
    read: list[str] = []
    batches = iter(loader(make_backbone("t5"), counted(texts(1000), read), 400))
    for _ in range(4):
        next(batches)
    assert len(read) == 24


@pytest.mark.parametrize("done", [1, 3, 4, 11])
def test_a_resumed_training_sees_what_is_left(make_backbone: Callable[..., Backbone], done: int) -> None:
    backbone = make_backbone("t5")
    whole = rows(loader(backbone, counted(texts(31), []), 48))
    assert rows(skip_first_batches(loader(backbone, counted(texts(31), []), 48), done)) == whole[done:]


def test_processes_share_each_batch(make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone("t5")
    whole = rows(loader(backbone, counted(texts(24), []), 24))
    shares = [rows(loader(backbone, counted(texts(24), []), 24, 2, process)) for process in (0, 1)]
    assert [labels([batch]) for batch in whole] == [labels([a]) + labels([b]) for a, b in zip(*shares, strict=True)]


def test_workers_that_read_ahead_read_the_same(make_backbone: Callable[..., Backbone], tmp_path: Path) -> None:
    """From an open file, whose place they would share."""
    backbone, file = make_backbone("t5"), tmp_path / "hub" / "train.jsonl"
    file.parent.mkdir()
    file.write_text("".join(f'{{"source": "{text}", "target": "{text}"}}\n' for text in texts(24)))
    stream = load_splits(CUSTOM, HubData(train=HubSplit(path=str(file.parent)), streaming=True), ["train"]).stream
    assert stream is not None
    whole = rows(loader(backbone, stream, 48))
    assert rows(loader(backbone, stream, 48, workers=2)) == whole


def test_an_empty_stream_is_an_error(make_backbone: Callable[..., Backbone]) -> None:
    with pytest.raises(UserError, match="the train split is empty"):
        rows(loader(make_backbone("t5"), counted([], []), 24))


@pytest.fixture(params=["parquet", "jsonl", "saved"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A data set of fifty records of which one has no text."""
    frame = pd.DataFrame({"source": [f"s{n}" if n != 3 else " " for n in range(50)], "target": "t"})
    path = tmp_path / "hub"
    if request.param == "saved":
        datasets.DatasetDict({"train": datasets.Dataset.from_pandas(frame)}).save_to_disk(path)
        return str(path)
    path.mkdir()
    if request.param == "parquet":
        frame.to_parquet(path / "train.parquet")
    else:
        frame.to_json(path / "train.jsonl", orient="records", lines=True)
    return str(path)


def test_the_first_of_a_stream_are_those_of_the_whole(folder: str, tmp_path: Path) -> None:
    split = HubSplit(path=folder)
    for limit in (2, 20):
        streaming = HubData(train=split, max_train_examples=limit, streaming=True)
        found = load_splits(CUSTOM, streaming, ["train"])
        assert found.stream is None
        assert not list((tmp_path / "library").rglob("*.arrow"))  # nothing was prepared
        data = HubData(train=split, max_train_examples=limit)
        expected = load_splits(CUSTOM, data, ["train"]).train
        assert list(found.train) == list(expected) and len(expected) == limit
        shutil.rmtree(tmp_path / "library", ignore_errors=True)


def test_a_stream_is_read_anew_in_each_pass(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_IN_MEMORY", 5)
    splits = load_splits(CUSTOM, HubData(train=HubSplit(path=folder), streaming=True), ["train"])
    assert splits.stream is not None and not splits.train
    examples = splits.stream.endless()
    passes = [[next(examples).source for _ in range(49)] for _ in range(2)]
    assert passes[0] == passes[1] == [f"s{n}" for n in range(50) if n != 3]
