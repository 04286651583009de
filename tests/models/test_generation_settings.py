"""A checkpoint's own generation settings change no answer, cost no trained model, and are kept for who wants them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from tests.saved_model import SETTINGS as TRAINED_WITH
from warmup.answering.answerer import Answer, Answerer
from warmup.config.schema import EvaluationConfig
from warmup.files import read_json, write_json
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.loading import load_pretrained, save

SETTINGS: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 1},
    {"repetition_penalty": 5.0},
    {"encoder_repetition_penalty": 5.0},
    {"min_length": 30},
    {"min_new_tokens": 6},
    {"max_length": 3},
    {"max_time": 0.0},
    {"suppress_tokens": list(range(200, 300))},
    {"begin_suppress_tokens": list(range(200, 300))},
    {"bad_words_ids": [[token] for token in range(200, 300)]},
    {"forced_bos_token_id": 250},
    {"forced_eos_token_id": 1},
    {"sequence_bias": [[[250], 50.0]]},
    {"exponential_decay_length_penalty": [1, 1.5]},
    {"do_sample": True, "temperature": 3.0},
    {"temperature": 0.1},
    {"num_beams": 4, "early_stopping": True, "length_penalty": -5.0},
    {"num_beams": 4, "num_return_sequences": 4},
    {"num_return_sequences": 3},
    {"diversity_penalty": 1.0, "num_beam_groups": 2, "num_beams": 4},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"guidance_scale": 3.0},
    {"stop_strings": ["a", "e"]},
    {"eos_token_id": list(range(1, 300))},
    {"bos_token_id": 250, "decoder_start_token_id": 250},
    {"pad_token_id": 250},
    {"cache_implementation": "static"},
    {"cache_implementation": "no such cache"},
    {"watermarking_config": {"greenlist_ratio": 0.1, "bias": 50.0}},
    {"prompt_lookup_num_tokens": 3},
    {"return_dict_in_generate": True, "output_scores": True},
    {"use_cache": False},
    {"max_new_tokens": -1},
]
OF_THE_MODEL = {"eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id"}  # in config.json


@pytest.fixture(params=["t5", "llama"])
def folder(request: pytest.FixtureRequest, make_backbone: Any, tmp_path: Path) -> Path:
    save(make_backbone(request.param), tmp_path, TRAINED_WITH)
    return tmp_path


def answers(backbone: Backbone) -> list[Answer]:
    """Greedy warmups, and targets by beam."""
    return Answerer(backbone, Limits(64, 3, 6), EvaluationConfig(num_beams=2)).decode(
        [[265, 270, 268, 271], [266, 280]], "test"
    )


def test_a_checkpoints_generation_settings_change_no_answer(folder: Path) -> None:
    plain = answers(load_pretrained(str(folder)))
    files = {name: read_json(folder / name) for name in ("config.json", "generation_config.json")}
    for settings in SETTINGS:
        for name, content in files.items():
            of_the_model = name == "config.json" and settings.keys() & OF_THE_MODEL
            write_json(folder / name, content if of_the_model else content | settings)
        assert answers(load_pretrained(str(folder))) == plain, settings


def test_settings_that_transformers_refuses_are_saved_as_they_were(folder: Path, tmp_path: Path) -> None:
    plain = answers(load_pretrained(str(folder)))
    file, config = {"temperature": 0.3, "made_up": [1]}, {"top_p": 0.5, "early_stopping": True}
    write_json(folder / "generation_config.json", file)
    write_json(folder / "config.json", read_json(folder / "config.json") | config)
    save(load_pretrained(str(folder)), tmp_path / "again", TRAINED_WITH)
    again = load_pretrained(str(tmp_path / "again"))
    assert answers(again) == plain
    assert file.items() <= read_json(tmp_path / "again" / "generation_config.json").items()
    assert config.items() <= read_json(tmp_path / "again" / "config.json").items()
    assert again.family.auto.from_pretrained(tmp_path / "again").config.num_hidden_layers == 2


def test_settings_that_transformers_cannot_even_load_are_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("config.json", "generation_config.json"):
        write_json(folder / name, read_json(folder / name) | {"num_return_sequences": 3})
    with caplog.at_level(logging.INFO):
        save(load_pretrained(str(folder)), tmp_path / "again", TRAINED_WITH)
    assert "not kept either" in caplog.text
    assert load_pretrained(str(tmp_path / "again")).family.auto.from_pretrained(tmp_path / "again")


def test_settings_given_to_the_model_itself_are_not_used_either(folder: Path, tmp_path: Path) -> None:
    backbone = load_pretrained(str(folder))
    plain = answers(backbone)
    backbone.model.generation_config = GenerationConfig(no_repeat_ngram_size=1, temperature=0.2, min_new_tokens=7)
    assert answers(backbone) == plain
    assert backbone.model.generation_config.no_repeat_ngram_size == 1
    save(backbone, tmp_path / "again", TRAINED_WITH)


def test_unused_settings_are_named_once_and_neutral_ones_not(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_pretrained(str(folder))
    assert "not used" not in caplog.text
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"min_length": 5, "num_beams": 1, "_from_model_config": True}
    write_json(folder / "generation_config.json", settings)
    with caplog.at_level(logging.INFO):
        load_pretrained(str(folder))
    assert caplog.text.count("kept for saving and not used: min_length=5\n") == 1


@torch.no_grad()
def test_a_plain_generate_of_a_saved_model_knows_its_tokens(folder: Path) -> None:
    backbone = load_pretrained(str(folder))
    for model in (backbone.model, backbone.family.auto.from_pretrained(folder)):
        assert model.generation_config.eos_token_id == backbone.tokenizer.eos_token_id
        assert model.generation_config.pad_token_id == backbone.tokenizer.pad_token_id
        assert model.generate(torch.tensor([[265, 270]]), max_new_tokens=2).shape[0] == 1
