"""Text to ids and back: nothing that the data says is special, and what a tokenizer cannot write is counted."""

from __future__ import annotations

import copy
import logging
import random
from collections import Counter

import pytest
from tokenizers import AddedToken
from transformers import BertTokenizer, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from tests.models.tokenizer_kinds import KINDS, WRITES_EVERYTHING, unigram
from warmup.data.examples import Example
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.models.encoding import decoded_text, encode_sources, encode_targets
from warmup.models.llama import Llama
from warmup.models.loading import load_pretrained
from warmup.models.t5 import T5
from warmup.models.tokenizers import SEPARATOR, text_ids
from warmup.models.unwritable import count_unwritable

SPELT = ["<pad>", "</s>", "<unk>", "<s>", "<sep>", "<mask>", "<extra_id_0>", "<|end_of_text|>", "<0x41>", "＜/s＞"]
PARTS = [*"abc <>/|_{}é中", "  ", "</", "s>", "the", " quick", "dog", "\n", "\t"]


def with_separator(kind: str) -> PreTrainedTokenizerFast:
    tokenizer = KINDS[kind]()
    tokenizer.add_tokens([AddedToken(SEPARATOR, special=True, normalized=False)])
    return tokenizer


def backbone_of(tokenizer: PreTrainedTokenizerFast) -> Backbone:
    return Backbone(None, tokenizer, T5(), tokenizer.convert_tokens_to_ids(SEPARATOR))


def special_ids(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    return {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def random_texts(parts: list[str], count: int = 300) -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(parts, k=chance.randint(1, 8))).strip() for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_holds_a_special_token(kind: str) -> None:
    tokenizer = with_separator(kind)
    forbidden = special_ids(tokenizer)
    assert len(forbidden) >= 4 and tokenizer.eos_token_id in forbidden
    unknown = tokenizer.convert_tokens_to_ids("<unk>") if kind not in WRITES_EVERYTHING else None
    for text in [*SPELT, *random_texts([*PARTS, *SPELT, *SPELT])]:
        found = forbidden.intersection(text_ids(tokenizer, text)) - {unknown}
        assert not found, (text, tokenizer.convert_ids_to_tokens(text_ids(tokenizer, text)))
    for token in ("</s>", "<unk>", SEPARATOR):  # the vocabularies of all kinds have its characters
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in text_ids(tokenizer, f"a{token} b")


@pytest.mark.parametrize("kind", KINDS)
def test_other_text_gets_the_ids_that_it_always_had(kind: str) -> None:
    published, tokenizer = KINDS[kind](), with_separator(kind)
    before = tokenizer.backend_tokenizer.to_str()
    for text in ["", *random_texts([part for part in PARTS if part != "s>"])]:
        assert text_ids(tokenizer, text) == published(text, add_special_tokens=False)["input_ids"], text
    assert tokenizer.backend_tokenizer.to_str() == before  # it is saved with the model, as it was published


@pytest.mark.parametrize("kind", WRITES_EVERYTHING)
def test_text_comes_back_whole(kind: str) -> None:
    backbone = backbone_of(with_separator(kind))
    backbone.tokenizer.clean_up_tokenization_spaces = True  # as BART's says: "a ." would become "a."
    for text in ["a . b 's", "(x , y) !", *SPELT, *random_texts([*PARTS, *SPELT, " ."])]:
        ids = text_ids(backbone.tokenizer, text)
        assert decoded_text(backbone, ids) == text
        assert decoded_text(backbone, [*ids, backbone.tokenizer.eos_token_id, backbone.separator_id]) == text


@pytest.mark.parametrize("kind", ["t5", "t5, not legacy", "umt5"])
def test_a_spelt_token_keeps_the_spaces_around_it(kind: str) -> None:
    backbone = backbone_of(with_separator(kind))
    for text in ["the </s> dog", "the</s>dog", "<sep>dog<extra_id_0> <pad>", "</s>", "<unk> a", "a <0x41>"]:
        assert decoded_text(backbone, text_ids(backbone.tokenizer, text)) == text


def test_an_ordinary_added_token_stays_a_word_of_the_model() -> None:
    tokenizer = with_separator("llama3")
    tokenizer.add_tokens(["<think>"])
    backbone = backbone_of(tokenizer)
    ids = text_ids(tokenizer, "a<think> b</s>")
    assert tokenizer.convert_tokens_to_ids("<think>") in ids and decoded_text(backbone, ids) == "a<think> b</s>"


def test_limits_of_a_published_tokenizer_do_not_reach_texts() -> None:
    tokenizer = with_separator("llama3")
    whole = text_ids(copy.deepcopy(tokenizer), "the quick brown fox")
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert text_ids(tokenizer, "the quick brown fox") == whole


@pytest.mark.parametrize("kind", KINDS)
def test_sources_and_targets_end_where_their_text_ends(kind: str) -> None:
    backbone = backbone_of(with_separator(kind))
    example = Example("a </s> b", "a </s> b <sep> <pad>", "<s>c</s> d<sep>")
    for row in (encode_sources(backbone, [example], 99, "test")[0], encode_targets(backbone, [example], 99, "test")[0]):
        assert [row.index(token) for token in special_ids(backbone.tokenizer).intersection(row)] == [len(row) - 1]


@pytest.mark.parametrize("kind", ["fresh llama", "llama3", "llama2"])
def test_a_causal_source_has_its_special_tokens_at_its_ends_alone(kind: str) -> None:
    tokenizer = with_separator(kind)
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    text, closing = Llama().source_ids(tokenizer, "a </s> b <sep> <s>", separator)
    assert closing == [separator] and text[0] == tokenizer.bos_token_id
    assert not special_ids(tokenizer).intersection(text[1:])


def test_roles_make_tokens_special_whatever_the_checkpoint_calls_them(tmp_path) -> None:
    """A vocabulary that has `<sep>` as a word of its own, and an end token that was added as a word."""
    tokenizer = unigram()
    tokenizer.add_tokens([AddedToken(SEPARATOR, special=False), AddedToken("<end>", special=False)])
    tokenizer.eos_token = "<end>"
    config = T5Config(
        vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = load_pretrained(str(tmp_path))
    assert backbone.separator_id == tokenizer.convert_tokens_to_ids(SEPARATOR)
    text = "a<end> b<sep>c"
    ids = text_ids(backbone.tokenizer, text)
    end = backbone.tokenizer.eos_token_id
    assert end not in ids and backbone.separator_id not in ids
    assert decoded_text(backbone, [*ids, backbone.separator_id, end]) == text


def test_a_tokenizer_without_a_fast_version_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = T5Config(vocab_size=99, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb")
    slow = BertTokenizer(str(tmp_path / "vocab.txt"))
    monkeypatch.setattr("warmup.models.loading.AutoTokenizer.from_pretrained", lambda *_, **__: slow)
    with pytest.raises(UserError, match=r"has no fast tokenizer \(tokenizer.json\)"):
        load_pretrained(str(tmp_path))


def unwritable(tokenizer: PreTrainedTokenizerFast, *texts: str, side: str = "targets") -> dict[str, object]:
    examples = [Example(text, text, text) for text in texts]
    return count_unwritable(backbone_of(tokenizer), {"test": examples})["test"][side]


def test_characters_that_do_not_come_back_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = with_separator("t5")
    texts = ["the {dog} {", "a\nb", "ﬁ，", "all of this", "\x1b[31m", "a  b", "x\u0338"]
    lost = {"{": 2, "}": 1, "\n": 1, "ﬁ": 1, "，": 1, "\x1b": 1, "[": 1, "\u0338": 1}
    train = [Example("x", "x", text) for text in texts]
    with caplog.at_level(logging.WARNING):
        counts = count_unwritable(
            backbone_of(tokenizer), {"train": train, "validation": [], "input": [Example("{", "{", None)]}
        )
    assert counts["train"]["targets"] == {
        "examples": 5,
        "example_share": 5 / 7,
        "characters": 9,
        "character_share": 9 / sum(map(len, texts)),
        "most_frequent": lost,
    }
    assert counts["train"]["sources"]["characters"] == 0
    assert set(counts) == {"train", "input"} and set(counts["input"]) == {"sources"}
    assert counts["input"]["sources"]["example_share"] == 1
    first, second = (record.getMessage() for record in caplog.records)
    assert "5 of 7 train targets" in first and f"{100 * 9 / sum(map(len, texts)):.2f}%" in first
    assert "'{' (2)" in first and r"'\n' (1)" in first and r"'\x1b' (1)" in first and "\x1b" not in first
    assert r"'\u0338' (1)" in first  # by itself it would be put on the quotation mark
    assert "1 of 1 input sources" in second


@pytest.mark.parametrize("kind", WRITES_EVERYTHING)
def test_tokenizers_that_write_everything_lose_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["{é} 中\nb\t<x> ", "</s><unk><sep>", "cafe\u0301", "a \u200b\x1b"]
    assert unwritable(with_separator(kind), *texts)["examples"] == 0
    assert not caplog.records


@pytest.mark.parametrize("kind", ["t5", "t5, not legacy", "umt5"])
def test_counts_are_those_of_a_plain_round_trip(kind: str) -> None:
    backbone = backbone_of(with_separator(kind))
    texts = random_texts([*PARTS, *SPELT, "e\u0301", "①", "▁"])
    expected: Counter[str] = Counter()
    for text in texts:
        back = decoded_text(backbone, text_ids(backbone.tokenizer, text))
        expected.update(Counter(text.replace(" ", "")) - Counter(back))
    counted = unwritable(backbone.tokenizer, *texts)
    assert counted["characters"] == expected.total() > 0
    assert Counter(counted["most_frequent"]) == Counter(dict(expected.most_common(10)))


@pytest.mark.parametrize(("piece", "held", "lost"), [("▁€", "€", "a€"), ("q€", "q€", "a€"), ("€a", "€a", "q€")])
def test_a_character_that_only_a_longer_piece_holds_is_lost_elsewhere_alone(piece: str, held: str, lost: str) -> None:
    published = unigram().backend_tokenizer
    state = published.to_str().replace('["|",', f'["{piece}",')
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=type(published).from_str(state), eos_token="</s>", unk_token="<unk>"
    )
    assert unwritable(tokenizer, held, side="sources")["characters"] == 0
    assert unwritable(tokenizer, held, lost)["most_frequent"] == {"€": 1}


def test_a_letter_with_a_special_role_is_not_to_be_had_as_text() -> None:
    tokenizer = unigram()
    tokenizer.add_special_tokens({"pad_token": "q"})
    assert unwritable(tokenizer, "qa b", "a")["most_frequent"] == {"q": 1}
