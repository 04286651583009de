"""From text to token ids: what is cut where, what is said of it, and what a source begins and ends with."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from tests.conftest import ARCHITECTURES
from warmup.config.schema import OptionsConfig
from warmup.data.examples import Example, Wording
from warmup.models.backbone import Backbone
from warmup.models.encoding import encode_sources, encode_targets

LONG, SHORT = "the quick brown fox jumps over the lazy dog", "we"


def examples(*texts: str) -> list[Example]:
    return [Example(text, text, text) for text in texts]


def plain(backbone: Backbone, text: str) -> list[int]:
    ids: list[int] = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_source_is_cut_in_front_of_its_closing_token(
    make_backbone: Callable[..., Backbone], architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = make_backbone(architecture)
    causal = architecture == "llama"
    begin = [backbone.tokenizer.bos_token_id] if causal else []
    close = [backbone.separator_id] if causal else [backbone.tokenizer.eos_token_id]
    whole = [*begin, *plain(backbone, LONG), *close]
    with caplog.at_level(logging.WARNING):
        assert encode_sources(backbone, examples(LONG, SHORT), len(whole), "dev")[0] == whole
    assert caplog.messages == []  # the limit itself is not too long
    limit = len(whole) - 1
    with caplog.at_level(logging.WARNING):
        rows = encode_sources(backbone, examples(LONG, SHORT, LONG), limit, "dev")
    assert rows == [[*whole[: limit - 1], *close], [*begin, *plain(backbone, SHORT), *close], rows[0]]
    assert caplog.messages == [f"2 of 3 dev sources are longer than task.max_source_tokens={limit} and were cut"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_target_is_cut_in_front_of_its_end(
    make_backbone: Callable[..., Backbone], architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = make_backbone(architecture)
    whole = [*plain(backbone, LONG), backbone.tokenizer.eos_token_id]
    with caplog.at_level(logging.WARNING):
        assert encode_targets(backbone, examples(LONG, SHORT), len(whole), "training")[0] == whole
    assert caplog.messages == []
    limit = len(whole) - 1
    with caplog.at_level(logging.WARNING):
        rows = encode_targets(backbone, examples(SHORT, LONG), limit, "training")
    assert rows == [[*plain(backbone, SHORT), whole[-1]], [*whole[: limit - 1], whole[-1]]]
    assert caplog.messages == [f"1 of 2 training targets are longer than task.max_target_tokens={limit} and were cut"]


def test_a_llama_without_a_first_token_begins_with_the_text(make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone("llama")
    assert isinstance(backbone.tokenizer.bos_token_id, int)
    backbone.tokenizer.bos_token = None
    assert encode_sources(backbone, examples(SHORT), 9, "dev") == [[*plain(backbone, SHORT), backbone.separator_id]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_of_a_passage_before_a_question_the_passage_is_cut(
    make_backbone: Callable[..., Backbone], architecture: str
) -> None:
    backbone = make_backbone(architecture)
    options = OptionsConfig("options", "answer", ["A", "B"], "{label}. {text}\n")
    wording = Wording("any", "Passage: {text} Question: {question} {options} Answer:", "{answer}", options=options)
    record = {"text": f"{LONG} {LONG}", "question": "who jumps?", "options": ["fox", "dog"], "answer": 0}
    example = wording.example(record, "here")
    assert example.prompt == f"Passage: {LONG} {LONG} Question: who jumps? A. fox\nB. dog Answer:"
    (whole,) = encode_sources(backbone, [example], 10_000, "dev")
    last = plain(backbone, "Question: who jumps? A. fox\nB. dog Answer:")[-5:]
    for limit in range(len(whole) - 12, len(whole) + 1):
        (row,) = encode_sources(backbone, [example], limit, "dev")
        assert len(row) <= limit and row[-1] == whole[-1] and row[-6:-1] == last
        assert len(row) > limit - 6  # as much as fits
        assert row[:4] == whole[:4]
    (row,) = encode_sources(backbone, [example], 8, "dev")  # the question alone is longer: its end is cut, as before
    assert row[:-1] == whole[:7]
