"""Which configurations are measured, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.tiny_configs import CONFIGS, T5, written
from warmup.errors import UserError
from warmup.studies.benchmark import models
from warmup.studies.benchmark.models import read_config
from warmup.studies.benchmark.workloads import SIZES


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "hub_answers", lambda: False)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_folder_needs_nothing_but_its_configuration(architecture: str, tmp_path: Path) -> None:
    config = read_config(str(written(CONFIGS[architecture], tmp_path)))
    assert {name: getattr(config, name) for name in ("model_type", "vocab_size")} == {
        "model_type": architecture,
        "vocab_size": 120,
    }


def test_every_named_size_is_readable() -> None:
    assert {read_config(name).model_type for name in SIZES} == {"t5", "mt5", "llama"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert", "hidden_size": 32}, "of the model type bert, .*; allowed: t5, mt5, bart, mbart, llama"),
        ({**T5, "architectures": ["T5EncoderModel"]}, "only one half of a t5"),
        ({**T5, "is_encoder_decoder": False}, "only one half of a t5"),
        ({"hidden_size": 32}, "no usable configuration"),
        ({**T5, "feed_forward_proj": "a-b-c"}, "no usable configuration"),
    ],
)
def test_another_architecture_is_refused(config: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        read_config(str(written(config, tmp_path)))


def test_a_folder_without_a_readable_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} holds no config.json"):
        read_config(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is no usable configuration: .*not a valid JSON"):
        read_config(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("./no/such/folder", r"^there is no folder \./no/such/folder; sizes known here: t5_small"),
        ("t5_bse", "the Hugging Face hub cannot be reached; did you mean 't5_base'"),
        ("warmup-tests/nowhere", "the Hugging Face hub cannot be reached; sizes known here"),
    ],
)
def test_a_model_that_is_nowhere_is_named(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_config(name)
