"""What stands around source and target of a pretrained model, in its own tokenizer's tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from tests.config.composing import configured
from tests.conftest import TEXTS, tiny_backbone
from tests.saved_model import SETTINGS
from warmup.config.schema import ModelConfig
from warmup.data.examples import Example
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.models.configured import SENTINEL, begin_separator, untrained_model
from warmup.models.encoding import encode_sources
from warmup.models.loading import load_pretrained, save
from warmup.models.sequence_format import SequenceFormat

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def pretrained(folder: Path, architecture: str, chat: str | None = None, known: list[str] | None = None) -> Path:
    """A checkpoint as from elsewhere: its tokenizer knows no `<sep>`."""
    backbone = tiny_backbone(architecture)
    tokenizer = type(backbone.tokenizer)(
        tokenizer_object=_without_separator(backbone), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_tokens(known or [], special_tokens=True)
    tokenizer.chat_template = chat
    backbone.model.resize_token_embeddings(len(tokenizer))
    backbone.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _without_separator(backbone: Backbone):

    content = json.loads(backbone.tokenizer.backend_tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<sep>"]
    return Tokenizer.from_str(json.dumps(content))


def loaded(folder: Path, **keys: object) -> Backbone:
    config = ModelConfig(name="m", pretrained=str(folder), **keys)
    config.check()
    return load_pretrained(str(folder), format_of=partial(SequenceFormat.of_pretrained, config))


def prompt(backbone: Backbone) -> str:
    (ids,) = encode_sources(backbone, [Example(TEXTS[0], TEXTS[0], None)], 200, "test")
    return backbone.tokenizer.decode(ids)


def test_a_causal_model_reads_its_chat_template_and_a_worded_separator(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "m", "llama", CHAT, ["<|user|>", "<|assistant|>"])
    chat = loaded(folder)
    ids = chat.tokenizer("<|user|>", add_special_tokens=False)["input_ids"]
    found = encode_sources(chat, [Example(TEXTS[0], TEXTS[0], None)], 200, "test")[0]
    assert found[0] == ids[0] and found[-1] == chat.tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert TEXTS[0] in prompt(chat) and "<sep>" not in chat.tokenizer.get_vocab()
    assert chat.tokenizer.decode(chat.separator) == "\nAnswer:\n"
    assert chat.tokenizer.decode([chat.separator_id]) == "\n"
    plain = loaded(folder, chat_template=False)
    assert "<|user|>" not in prompt(plain) and prompt(plain).endswith(TEXTS[0] + "\n")
    assert prompt(loaded(folder, after_source=" so:")).endswith(" so:")


def test_a_warmup_that_a_line_end_closes_is_one_line(tmp_path: Path) -> None:
    backbone = loaded(pretrained(tmp_path / "m", "llama", None, ["\n\n"]))
    allowed = (~backbone.never_in_warmup).nonzero().flatten().tolist()
    ends = [token for token in allowed if "\n" in backbone.tokenizer.decode([token])]
    assert ends == [backbone.separator_id]


def test_what_a_checkpoint_was_trained_with_is_what_it_goes_on_with(tmp_path: Path) -> None:
    first = loaded(pretrained(tmp_path / "m", "llama"), separator=" so:\n")
    save(first, tmp_path / "again", replace(SETTINGS, sequence=first.sequence))
    again = load_pretrained(str(tmp_path / "again"))
    assert (again.separator, again.around_source) == (first.separator, first.around_source)
    assert prompt(again) == prompt(first)


@pytest.mark.parametrize(("architecture", "known"), [("t5", [SENTINEL]), ("mt5", [SENTINEL]), ("bart", [])])
def test_a_new_separator_begins_as_a_token_that_pretraining_knows(
    tmp_path: Path, architecture: str, known: list[str]
) -> None:
    folder = pretrained(tmp_path / "m", architecture, None, known)
    backbone = loaded(folder)
    begin_separator(backbone, None)
    like = backbone.tokenizer.convert_tokens_to_ids(known[0] if known else "</s>")
    for layer in (backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()):
        assert torch.equal(layer.weight[backbone.separator_id], layer.weight[like])
        assert not torch.equal(layer.weight[backbone.separator_id], layer.weight[like - 1])
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight[backbone.separator_id] += 1
    save(backbone, tmp_path / "again", SETTINGS)
    again = load_pretrained(str(tmp_path / "again"))  # it is known there, and stays as it is
    expected = backbone.model.get_input_embeddings().weight[backbone.separator_id]
    assert torch.equal(again.model.get_input_embeddings().weight[again.separator_id], expected)


def row_of_separator(folder: Path, *overrides: str) -> tuple[Backbone, bool]:
    """What a training begins with, and whether its separator is embedded like what ends a text."""
    model = configured("model=tiny_t5", f"model.pretrained={folder}", *overrides)
    backbone = untrained_model(model, []).backbone
    table = backbone.model.get_output_embeddings().weight
    return backbone, torch.equal(table[backbone.separator_id], table[backbone.tokenizer.eos_token_id])


def test_only_a_method_that_writes_warmups_begins_its_separator(tmp_path: Path) -> None:
    """For SFT it would take half the probability of the token that it is like, and split beams."""
    folder = pretrained(tmp_path / "bart", "bart")
    assert row_of_separator(folder, "method=warmup")[1] and not row_of_separator(folder, "method=sft")[1]
    trained = load_pretrained(str(pretrained(tmp_path / "t5", "t5", None, ["<mark>"])))
    save(trained, tmp_path / "run", replace(SETTINGS, limits=replace(SETTINGS.limits, warmup=None)))
    assert row_of_separator(tmp_path / "run", "method=warmup")[1]
    assert not row_of_separator(tmp_path / "run", "method=sft")[1]
    backbone, same = row_of_separator(tmp_path / "run", "method=warmup", 'model.separator="<mark>"')
    assert backbone.separator_id == backbone.tokenizer.convert_tokens_to_ids("<mark>") and not same


@pytest.mark.parametrize(
    ("architecture", "keys", "reason"),
    [
        ("t5", {"after_source": "\n"}, "model.after_source.*encoder-decoder"),
        ("t5", {"chat_template": True}, "model.chat_template.*encoder-decoder"),
        ("llama", {"chat_template": True}, "model.chat_template.*has no chat template"),
        ("llama", {"separator": ""}, "model.separator"),
        ("llama", {"chat_template": True, "after_source": "a"}, "model.after_source"),
    ],
)
def test_what_a_model_has_no_use_for_is_refused(tmp_path: Path, architecture: str, keys: dict, reason: str) -> None:
    folder = pretrained(tmp_path / "m", architecture)
    with pytest.raises(UserError, match=reason):
        loaded(folder, **keys)


def test_a_template_that_hides_the_message_is_refused(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "m", "llama", "{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(UserError, match="model.chat_template=false"):
        loaded(folder)
    assert loaded(folder, chat_template=False)


def test_a_limit_without_room_for_a_source_is_refused(tmp_path: Path) -> None:
    backbone = loaded(pretrained(tmp_path / "m", "llama", CHAT, ["<|user|>", "<|assistant|>"]))
    with pytest.raises(UserError, match="task.max_source_tokens"):
        encode_sources(backbone, [Example("a", "a", None)], 3, "test")
