"""Weights in 4 bits: what is rounded, what is counted, what cannot be done with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.adapted import FOR_4_BITS, pretrained
from tests.saved_model import SETTINGS
from warmup.config.schema import LoraConfig, ModelConfig
from warmup.errors import UserError
from warmup.models.loading import load_pretrained, save
from warmup.models.lora import add_adapters
from warmup.models.size import count_weights


def test_linear_layers_are_rounded_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = str(pretrained(tmp_path / "base", "llama", FOR_4_BITS))
    plain, rounded = load_pretrained(base).model, load_pretrained(base, in_4bit=True).model
    small = {name for name, weight in rounded.named_parameters() if weight.dtype == torch.uint8}
    assert small and all("_proj" in name for name in small)
    assert small == {name for name, weight in plain.named_parameters() if "_proj" in name}
    assert count_weights(rounded)[0] == count_weights(plain)[0]
    ids = torch.arange(20, 30)[None]
    difference = (plain(input_ids=ids).logits - rounded(input_ids=ids).logits).abs().max().item()
    assert 0 < difference < 0.5 * plain(input_ids=ids).logits.abs().max().item()


def test_adapters_find_their_base_model_rounded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    base = str(pretrained(tmp_path / "base", "llama", FOR_4_BITS))
    backbone = load_pretrained(base, in_4bit=True)
    backbone.adapters = add_adapters(backbone.model, LoraConfig(rank=2), backbone.new_rows, base, None)
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    folder = tmp_path / "adapters"
    save(backbone, folder, replace(SETTINGS, base_in_4bit=True))
    ids = torch.arange(20, 30)[None]
    again = load_pretrained(str(folder)).model(input_ids=ids).logits
    torch.testing.assert_close(again, backbone.model(input_ids=ids).logits)
    with pytest.raises(UserError, match="model.load_in_4bit is True; allowed: false with"):
        load_pretrained(str(folder), in_4bit=True)
    monkeypatch.setattr("warmup.config.model.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        load_pretrained(str(folder))


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmup.config.model.find_spec", lambda name: None)
    lora = LoraConfig(rank=4, merge=False)
    with pytest.raises(UserError, match="model.load_in_4bit=true needs .* pip install bitsandbytes"):
        ModelConfig(name="x", pretrained="y", load_in_4bit=True, lora=lora).check()


def test_flash_attention_is_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match="model.attention is 'flash_attention_2'; allowed: eager or sdpa: .* one row"):
        ModelConfig(name="x", attention="flash_attention_2").check()
