"""Token ids on disk are those in memory, and made once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TEXTS
from tests.data.test_stored import no_reading, write_table
from warmup.config.schema import LocalData, TaskConfig
from warmup.data import stored
from warmup.data.examples import Example
from warmup.data.load import load_splits
from warmup.data.stored import StoredExamples
from warmup.models import configured, stored_tokens, tokenizers
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import Collator, TextReader
from warmup.models.stored_tokens import TokenRows, encode_pairs
from warmup.models.unwritable import count_unwritable
from warmup.training.batches import EncodedExamples, EpochLoader, SharedBatches, ShuffledSampler

TASK = TaskConfig(name="custom", source_template="say {source} now", target_template="{target}")
LIMITS = Limits(source=20, warmup=None, target=24)


@pytest.fixture(autouse=True)
def _large_from_five_examples_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(stored, "ROWS", 7)
    monkeypatch.setattr(stored_tokens, "FEWEST_EXAMPLES", 20)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> LocalData:
    words = " ".join(TEXTS).split()
    texts = [" ".join(words[n % 7 : n % 7 + n % 11 + 1]) + " ﬁ" * (n % 10 == 3) for n in range(90)]
    return LocalData(train=str(write_table(tmp_path / "a.jsonl", texts)), split_seed=1)


@pytest.fixture
def both(data: LocalData) -> tuple[StoredExamples, Sequence[Example]]:
    """The training examples on disk, an arbitrary part of the file's, and the same in memory."""
    found = load_splits(TASK, data).train
    assert isinstance(found, StoredExamples)
    return found, list(found)


@pytest.mark.parametrize("architecture", ["t5", "llama"])
@pytest.mark.parametrize("processors", [1, 2])
def test_the_rows_and_the_warnings_are_those_in_memory(
    make_backbone: Callable[..., Backbone],
    both: tuple[StoredExamples, Sequence[Example]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    architecture: str,
    processors: int,
) -> None:
    monkeypatch.setattr(stored_tokens, "_free_processors", lambda: processors)
    backbone, environment, before = make_backbone(architecture), os.environ, dict(os.environ)
    found, said = [], []
    for examples in both:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found.append(encode_pairs(backbone, examples, LIMITS, "training"))
        said.append(caplog.messages)
    assert said[0] == said[1] and len(said[0]) == 2  # sources and targets that were cut
    for rows, expected in zip(*found, strict=True):
        assert isinstance(rows, TokenRows)
        assert list(rows) == expected and rows[-1] == expected[-1] and rows[3:5] == expected[3:5]
        assert rows.lengths.tolist() == list(map(len, expected))
        assert {values.dtype for _, values in rows._chunks} == {np.dtype("int32")}
    assert os.environ is environment and dict(os.environ) == before


def test_the_next_run_does_not_tokenise(
    make_backbone: Callable[..., Backbone],
    both: tuple[StoredExamples, Sequence[Example]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stored_tokens, "_free_processors", lambda: 1)
    calls = []
    source = TextReader.source

    def counted(reader: TextReader, example: Example, limit: int) -> tuple[list[int], bool]:
        calls.append(example)
        return source(reader, example, limit)

    monkeypatch.setattr(TextReader, "source", counted)
    examples, n = both[0], len(both[0])
    for settings, expected in [
        (("t5", LIMITS), n),
        (("t5", LIMITS), n),
        (("t5", Limits(source=21, warmup=None, target=24)), 2 * n),
        (("llama", LIMITS), 3 * n),
        (("t5", LIMITS), 3 * n),
    ]:
        caplog.clear()
        encode_pairs(make_backbone(settings[0]), examples, settings[1], "training")
        assert len(calls) == expected
        assert "training sources are longer" in caplog.text  # said each time
    encode_pairs(make_backbone("t5"), examples[:-1], LIMITS, "training")
    assert len(calls) == 4 * n - 1


@pytest.mark.parametrize("group_by_length", [True, False])
def test_training_sees_the_same_batches(
    make_backbone: Callable[..., Backbone], both: tuple[StoredExamples, Sequence[Example]], group_by_length: bool
) -> None:
    backbone = make_backbone("t5")
    seen: list[list[dict[str, Any]]] = []
    for examples in both:
        encoded = EncodedExamples(*encode_pairs(backbone, examples, LIMITS, "training"))
        order = ShuffledSampler(encoded.lengths, 8, group_by_length, seed=3)
        loader = EpochLoader(encoded, batch_sampler=SharedBatches(order, 4, 1, 0), collate_fn=Collator(backbone))
        batches = []
        for epoch in range(2):
            loader.set_epoch(epoch)
            batches += [{name: value.tolist() for name, value in batch.items()} for batch in loader]
        seen.append(batches)
    assert seen[0] == seen[1] and len(seen[0]) == 2 * -(-len(both[1]) // 4)


def test_what_was_found_out_of_the_texts_is_the_same_and_found_out_once(
    make_backbone: Callable[..., Backbone],
    both: tuple[StoredExamples, Sequence[Example]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = make_backbone("t5")
    backbone.tokenizer.backend_tokenizer.normalizer = tokenizers.tokenizers.normalizers.NFKC()
    found, expected = (count_unwritable(backbone, {"train": examples}) for examples in both)
    assert found == expected and found["train"]["targets"]["examples"] > 0
    monkeypatch.setattr(StoredExamples, "__iter__", no_reading)
    assert count_unwritable(backbone, {"train": both[0]}) == expected


def test_a_fresh_tokenizer_is_the_same_and_trained_once(
    both: tuple[StoredExamples, Sequence[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(examples: Sequence[Example], size: int) -> str:
        texts = (text for row in range(len(examples)) for text in (examples[row].prompt, examples[row].target or ""))
        remember = configured.partial(stored.remembered, examples, "the tokenizer")
        return tokenizers.train_tokenizer(texts, size, "$A </s>", remember).backend_tokenizer.to_str()

    found, expected = (trained(examples, 300) for examples in both)
    assert found == expected
    assert trained(both[0], 290) != expected
    monkeypatch.setattr(StoredExamples, "__getitem__", no_reading)
    assert trained(both[0], 300) == expected
