"""Fresh and saved models: plain Hugging Face checkpoints, the separator, clear errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.conftest import TEXTS
from tests.saved_model import SETTINGS
from warmup.config.architectures import ARCHITECTURES
from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.loading import load_pretrained, save
from warmup.models.model_types import FAMILIES
from warmup.models.sharpening import Sharpening
from warmup.models.tokenizers import SEPARATOR, train_tokenizer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_loads_plainly_and_with_us(make_backbone, architecture: str, tmp_path: Path) -> None:
    backbone = make_backbone(architecture)
    save(backbone, tmp_path, SETTINGS)
    plain, tokenizer = backbone.family.auto.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert sum(1 for _ in tmp_path.glob("*.safetensors")) == 1 and not list(tmp_path.glob("*.bin"))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, backbone.model.state_dict()[name])
    assert tokenizer.convert_tokens_to_ids(SEPARATOR) == backbone.separator_id
    again = load_pretrained(str(tmp_path))
    assert again.separator_id == backbone.separator_id
    assert torch.equal(again.never_in_warmup, backbone.never_in_warmup)
    assert CheckpointSettings.read(str(tmp_path)) == SETTINGS


def test_settings_say_what_a_trained_model_answers_with(tmp_path: Path) -> None:
    limits = replace(SETTINGS.limits, warmup=None)
    for settings in (SETTINGS, replace(SETTINGS, sharpening=Sharpening(0.5, 0.9)), replace(SETTINGS, limits=limits)):
        settings.write(tmp_path)
        content = read_json(tmp_path / "warmup_config.json")
        assert list(content) == ["format", "method", "limits", "wording", "sequence", "sharpening", "base_in_4bit"]
        assert (content["format"], content["sequence"]["separator"]) == (1, "<sep>") and content[
            "method"
        ] == settings.method
        assert CheckpointSettings.read(str(tmp_path)) == settings
    assert (SETTINGS.method, settings.method) == ("warmup", "sft")
    assert CheckpointSettings.read(str(tmp_path / "none")) is None  # nobody's but Hugging Face's


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "not what this version writes"),
        ({"limits": None}, "limits is not a JSON object"),
        ({"limits": {"source": 64, "target": 64}}, "limits has no 'warmup'"),
        ({"limits": {"source": "64", "warmup": 8, "target": 64}}, "limits.source is '64'; allowed: int"),
        ({"limits": {"source": 64, "warmup": 0, "target": 64}}, "limits.warmup is 0; allowed: 1 to 1000000 tokens"),
        ({"limits": {"source": True, "warmup": 8, "target": 64}}, "limits.source is True; allowed: int"),
        ({"limits": {"source": 64, "warmup": 8, "target": 64, "answer": 9}}, "limits has 'answer'; allowed: source"),
        ({"wording": {"task": "translation", "source_template": "{a}"}}, "wording has no 'target_template'"),
        ({"wording": []}, "wording is not a JSON object"),
        ({"sharpening": {"temperature": 0.0}}, "sharpening.temperature is 0.0; allowed: a number above 0"),
        ({"sharpening": {"top_p": 1.5}}, "sharpening.top_p is 1.5; allowed: above 0, up to 1"),
        ({"sharpening": {"top_q": 1.0}}, "sharpening has 'top_q'; allowed: temperature, top_p"),
    ],
    ids=str,
)
def test_broken_settings_name_their_file_and_the_fault(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    SETTINGS.write(tmp_path)
    file = tmp_path / "warmup_config.json"
    write_json(file, read_json(file) | change)
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        CheckpointSettings.read(str(tmp_path))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_a_published_model_gets_a_separator_and_keeps_its_weights(architecture: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300, FAMILIES[architecture].template)
    if architecture == "llama":
        tokenizer.pad_token = None  # as Llama 3 is published
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        model = LlamaForCausalLM(config)
    else:
        rows = len(tokenizer) + 28  # T5 has rows that no token owns
        config = T5Config(
            vocab_size=rows, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone = load_pretrained(str(tmp_path))
    assert backbone.tokenizer.pad_token_id is not None
    assert backbone.separator_id == len(tokenizer)
    old = model.get_input_embeddings().weight[: len(tokenizer)]
    assert torch.equal(backbone.model.get_input_embeddings().weight[: len(tokenizer)], old)
    forbidden = backbone.never_in_warmup
    assert forbidden.sum().item() >= (27 if architecture == "t5" else 0) + 3
    assert not forbidden[backbone.separator_id]
    assert forbidden[backbone.tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "text", ["Zwei Männer, 3 Hunde!", "中文 字符", "a <sep> b", "tabs\tand  spaces", "<script>&amp;"]
)
def test_trained_tokenizers_give_any_text_back(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS, 300, FAMILIES["t5"].template)
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path: Path, make_backbone) -> None:
    with pytest.raises(UserError, match="is not a model checkpoint"):
        load_pretrained(str(tmp_path))
    save(make_backbone("t5"), tmp_path / "model", SETTINGS)
    with pytest.raises(UserError, match="did you mean .*model"):
        load_pretrained(str(tmp_path))
    with pytest.raises(
        UserError, match=r"checkpoint is '.*modell'; allowed: a checkpoint's folder.*did you mean '.*/model'"
    ):
        load_pretrained(str(tmp_path / "modell"), key="checkpoint")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="is not a usable model checkpoint"):
        load_pretrained(str(tmp_path / "model"))


def test_a_hub_name_without_a_network_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)  # transformers 4 keeps its own
    with pytest.raises(UserError, match="model=tiny_t5"):
        load_pretrained("google-t5/t5-small")
    with pytest.raises(UserError, match="checkpoint=FOLDER") as error:
        load_pretrained("nowhere", key="checkpoint")
    assert "model." not in str(error.value), "the key that was given is the one to mend"


def test_a_gated_model_without_a_token_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it")

    monkeypatch.setattr("warmup.models.checkpoints.PretrainedConfig.get_config_dict", refuse)
    with pytest.raises(UserError, match=r"meta-llama/Llama-3.2-1B is gated: .*huggingface-cli login.* HF_TOKEN"):
        load_pretrained("meta-llama/Llama-3.2-1B")
