"""Model folders with one file that is broken: the file is named, and nothing is answered with what is left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.command import command
from tests.bad_input.conftest import Refused
from tests.saved_model import save_model

DEEP = '{"a": ' + "[" * 100_000
NOT_JSON = ["", "{", "\x00", DEEP, b"\xff\xfe", "[]", "null", "5", '"text"']
ANSWERED = ("run=predict", "checkpoint=model", "inputs=in.txt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, ["a small dog runs", "two men sit by the lake"])
    return folder


@pytest.fixture
def model(saved: Path, workplace: Path) -> Path:
    (workplace / "in.txt").write_text("a dog runs\n")
    return Path(shutil.copytree(saved, workplace / "model"))


def put(file: Path, content: bytes | str) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def change(file: Path, dotted: str, value: Any) -> None:
    """Set a value of a JSON file; None takes it out."""
    content = json.loads(file.read_text())
    *above, name = dotted.split(".")
    owner = content
    for key in above:
        owner = owner[key]
    if value is None:
        del owner[name]
    else:
        owner[name] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("content", NOT_JSON, ids=range(len(NOT_JSON)))
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "warmup_config.json"])
def test_a_file_that_is_no_json_object(name: str, content: bytes | str, model: Path, refused: Refused) -> None:
    put(model / name, content)
    assert "model" in refused(*ANSWERED)


@pytest.mark.parametrize("content", ["", "{", "[]", b"\xff\xfe", DEEP], ids=range(5))
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_cannot_be_read(name: str, content: bytes | str, model: Path, refused: Refused) -> None:
    put(model / name, content)
    assert "model" in refused(*ANSWERED)


SETTINGS: list[tuple[str, Any, str]] = [
    ("format", 2, "format 1"),
    ("format", "1", "format 1"),
    ("limits", None, "format 1"),
    ("wording", None, "format 1"),
    ("limits", [], "limits is not a JSON object"),
    ("limits.source", None, "no 'source'"),
    ("limits.source", "64", "limits.source"),
    ("limits.source", 0, "limits.source is 0"),
    ("limits.source", -5, "limits.source is -5"),
    ("limits.source", 1.5, "limits.source is 1.5"),
    ("limits.source", True, "limits.source is True"),
    ("limits.target", 10**30, "limits.target"),
    ("limits.warmup", "8", "limits.warmup"),
    ("limits.pauses", 3, "limits.pauses is 3"),
    ("limits.sources", 3, "'sources'"),
    ("wording", "text", "wording is not a JSON object"),
    ("wording.task", 5, "wording.task is 5"),
    ("wording.source_template", 5, "wording.source_template"),
    ("wording.source_template", "{", "template '{'"),
    ("wording.source_template", "no field", "is 'no field'"),
    ("wording.source_template", "{source.__class__}", "only plain placeholders"),
    ("wording.target_template", "{target!r}", "only plain placeholders"),
    ("wording.source_language", ["de"], "wording.source_language"),
    ("wording.options", 5, "wording.options"),
    ("wording.options", {"labels": [1, 2], "answer": "target"}, "wording.options.labels"),
    ("wording.options", {"labels": ["A"], "answer": "target"}, "labels"),
    ("wording.options", {"labels": ["A", "B"], "answer": "nope"}, "answer"),
    ("sequence.separator", 5, "sequence.separator"),
    ("sequence.separator", "", "separator"),
    ("sequence.nope", "x", "'nope'"),
    ("sharpening.temperature", 0, "sharpening.temperature is 0"),
    ("sharpening.temperature", "hot", "sharpening.temperature"),
    ("sharpening.top_p", 2, "sharpening.top_p is 2"),
    ("sharpening.vocabulary", 5, "sharpening.vocabulary"),
]


@pytest.mark.parametrize(("key", "value", "part"), SETTINGS, ids=[f"{key}={value}"[:40] for key, value, _ in SETTINGS])
def test_settings_of_a_checkpoint_that_cannot_be(
    key: str, value: Any, part: str, model: Path, refused: Refused
) -> None:
    change(model / "warmup_config.json", key, value)
    line = refused(*ANSWERED)
    assert part in line and "warmup_config.json" in line


CONFIGURED: list[tuple[str, Any]] = [
    ("model_type", None),
    ("model_type", "nope"),
    ("model_type", []),
    ("d_model", "wide"),
    ("d_model", 48),
    ("d_model", -1),
    ("num_layers", 3),
    ("num_layers", 10**9),
    ("vocab_size", 10),
    ("num_heads", 0),
]


@pytest.mark.parametrize(("key", "value"), CONFIGURED, ids=[f"{key}={value}" for key, value in CONFIGURED])
def test_a_configuration_that_is_not_of_the_weights(key: str, value: Any, model: Path, refused: Refused) -> None:
    change(model / "config.json", key, value)
    assert "model" in refused(*ANSWERED)


@pytest.mark.parametrize(
    ("key", "value"), [("num_beams", []), ("temperature", "hot"), ("eos_token_id", "x"), ("max_length", -1)]
)
def test_decoding_settings_that_nobody_uses_stop_nothing(key: str, value: Any, model: Path) -> None:
    change(model / "generation_config.json", key, value)
    ended = command(*ANSWERED)
    assert ended.status == 0, ended.errors


@pytest.mark.parametrize(
    "weights", [b"", b"\x00" * 8, b"\xff" * 64, b"\x08" + b"\x00" * 7 + b"{}      ", b"PK\x03\x04"], ids=range(5)
)
def test_weights_that_are_none(weights: bytes, model: Path, refused: Refused) -> None:
    (model / "model.safetensors").write_bytes(weights)
    assert "model" in refused(*ANSWERED)
    whole = model / "model.safetensors"
    whole.unlink()
    assert "model" in refused(*ANSWERED)


def test_weights_cut_off(model: Path, refused: Refused) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "model" in refused(*ANSWERED)


def test_weights_of_a_shard_that_is_not_there(model: Path, refused: Refused) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"shared.weight": "../../model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model" in refused(*ANSWERED)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"peft_type": "LORA"}', DEEP], ids=range(5))
def test_adapters_of_nothing(content: str, model: Path, refused: Refused) -> None:
    put(model / "adapter_config.json", content)
    assert "adapter" in refused(*ANSWERED)
