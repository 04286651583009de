"""Whose run a folder holds: the one that read what is there now, by content."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from warmup.command_line import FACTS, prepare
from warmup.config.checks import check
from warmup.config.groups import CONF
from warmup.config.schema import Config
from warmup.data.examples import Example
from warmup.data.load import load_splits
from warmup.errors import UserError
from warmup.runs.folder import finished
from warmup.runs.inputs import record_inputs, refuse_changed_files

TEXT = "source\ttarget\n" + "".join(f"word {i}\twort {i}\n" for i in range(40))
Start = Callable[..., Config]


def configuration(*overrides: str) -> Config:
    prepare()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return check(compose("config", list(overrides)), FACTS)


def begin(folder: Path, *overrides: str) -> None:
    """What a run does before it computes anything: its folder is asked, it reads, it writes down what it read."""
    folder.mkdir(exist_ok=True)
    config = configuration(*overrides)
    refuse_changed_files(folder, config)
    needed = {"all": ("train", "validation", "test"), "train": ("train", "validation"), "evaluate": ("test",)}
    splits = load_splits(config.task, config.data, needed[config.run]) if config.run in needed else None
    record_inputs(folder, config, vars(splits) if splits else {})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "train.tsv"
    file.write_text(TEXT)
    return file


@pytest.fixture
def local(data: Path) -> list[str]:
    return ["data=local", f"data.train={data}", "task=translation_de_en", "task.metrics=[bleu]"]


def test_a_changed_file_is_another_run_and_a_touched_one_is_not(tmp_path: Path, data: Path, local: list[str]) -> None:
    begin(tmp_path / "run", *local)
    before = (tmp_path / "run" / "inputs.json").read_bytes()
    os.utime(data, (1, 1))
    begin(tmp_path / "run", *local)
    data.write_text(TEXT.replace("wort 7", "wert 7"))  # as long as before
    os.utime(data, (1, 2))
    with pytest.raises(UserError, match=r"holds a run with another 'data\.train'.*hydra\.run\.dir=FOLDER"):
        begin(tmp_path / "run", *local)
    assert (tmp_path / "run" / "inputs.json").read_bytes() == before
    data.write_text(TEXT)
    begin(tmp_path / "run", *local)


def test_a_stage_is_held_to_what_it_reads(tmp_path: Path, data: Path, local: list[str]) -> None:
    """run=train reads no test file; run=all, which goes on from it, does."""
    test = tmp_path / "test.tsv"
    test.write_text(TEXT)
    words = [*local, f"data.test={test}"]
    begin(tmp_path / "run", *words, "run=train")
    test.write_text(TEXT.replace("wort", "Wort"))
    begin(tmp_path / "run", *words, "run=train")
    begin(tmp_path / "run", *words)
    test.write_text(TEXT)
    begin(tmp_path / "run", *words, "run=train")
    with pytest.raises(UserError, match=r"another 'data\.test'"):
        begin(tmp_path / "run", *words)


def test_a_test_set_split_off_the_training_file_hangs_on_it(tmp_path: Path, data: Path, local: list[str]) -> None:
    model = pretrained(tmp_path)
    words = [*local, "run=evaluate", f"checkpoint={model}"]
    begin(tmp_path / "run", *words)
    data.write_text(TEXT + "one more\tnoch eins\n")
    with pytest.raises(UserError, match=r"another 'data\.train'"):
        begin(tmp_path / "run", *words)


def test_examples_worded_otherwise_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file has changed: the toy generator has, in another version of the program."""
    sizes = ["data.train_size=5", "data.validation_size=2", "data.test_size=2"]
    begin(tmp_path / "run", *sizes)
    from warmup.data import toy

    generate = toy.generate

    def another(*arguments: Any) -> Any:
        return [{**record, "target": f"{record['target']} ."} for record in generate(*arguments)]

    monkeypatch.setattr(toy, "generate", another)
    with pytest.raises(UserError, match="another 'train_examples'"):
        begin(tmp_path / "run", *sizes)


def test_other_options_of_a_question_are_another_run(tmp_path: Path) -> None:
    """The prompt need not show them: what there is to choose from changes chance levels and the ranked answer."""
    config = configuration()
    example = Example("q", "q", "A", ("A", "B"))
    record_inputs(tmp_path, config, {"test": [example]})
    record_inputs(tmp_path, config, {"test": [example]})
    with pytest.raises(UserError, match="another 'test_examples'"):
        record_inputs(tmp_path, config, {"test": [replace(example, options=("A", "B", "C"))]})


def pretrained(tmp_path: Path) -> Path:
    """A folder with the files of a checkpoint; nothing loads it here."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_another_pretrained_model_under_the_same_name(tmp_path: Path, name: str) -> None:
    folder = pretrained(tmp_path)
    words = [f"model.pretrained={folder}", "data.train_size=5", "data.validation_size=2", "data.test_size=2"]
    begin(tmp_path / "run", *words)
    (folder / "README.md").write_text("about it")
    (folder / "run").mkdir()
    begin(tmp_path / "run", *words)
    (folder / name).write_text("[]")
    with pytest.raises(UserError, match=r"another 'model\.pretrained'"):
        begin(tmp_path / "run", *words)


def test_a_published_model_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As huggingface_hub keeps it: a reference to a commit, and a folder of that name."""
    from huggingface_hub import constants, file_download

    for module in (constants, file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path), raising=False)
    repository = tmp_path / "models--somebody--model"

    def publish(commit: str) -> None:
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)

    publish("1" * 40)
    words = ["model.pretrained=somebody/model", "data.train_size=5", "data.validation_size=2", "data.test_size=2"]
    begin(tmp_path / "run", *words)
    assert json.loads((tmp_path / "run" / "inputs.json").read_text())["model.pretrained"] == "1" * 40
    publish("2" * 40)
    with pytest.raises(UserError, match=r"another 'model\.pretrained'"):
        begin(tmp_path / "run", *words)


def test_a_folder_of_a_data_set_is_known_by_its_files(tmp_path: Path) -> None:
    """A cache that `datasets` writes into it is none of them."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.csv").write_text("source,target\na,b\n")
    words = ["data=hub", "task=translation_de_en", "task.metrics=[bleu]"]
    words += [f"data.{split}.path={folder}" for split in ("train", "validation", "test")]
    config = configuration(*words)
    (tmp_path / "run").mkdir()
    record_inputs(tmp_path / "run", config, {})
    (folder / "cache-1234.arrow").write_text("cache")
    (folder / ".lock").write_text("")
    refuse_changed_files(tmp_path / "run", config)
    (folder / "data" / "more.csv").write_text("source,target\nc,d\n")
    with pytest.raises(UserError, match=r"another 'data\.train\.path'"):
        refuse_changed_files(tmp_path / "run", config)


@pytest.mark.parametrize("key", ["predictions", "references", "sources"])
def test_files_to_be_scored(tmp_path: Path, key: str) -> None:
    names = ("predictions", "references", "sources")
    for name in names:
        (tmp_path / name).write_text("a\nb\n")
    words = ["run=score", *(f"{name}={tmp_path / name}" for name in names)]
    begin(tmp_path / "run", *words)
    (tmp_path / key).write_text("a\nc\n")
    with pytest.raises(UserError, match=f"another '{key}'"):
        begin(tmp_path / "run", *words)


def test_a_run_of_an_earlier_version_goes_on_with_a_warning(
    tmp_path: Path, local: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        begin(tmp_path / "run", *local)
        begin(tmp_path / "run", *local)
    assert [record.message for record in caplog.records if "inputs cannot be compared" in record.message] != []
    assert len(caplog.records) == 1


def test_what_a_folder_goes_on_with(tmp_path: Path) -> None:
    """Another stage that does less or more of the same, another logger: nothing that changes what is written."""

    def composed(*overrides: str) -> Any:
        prepare()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", list(overrides))

    tmp_path.joinpath("config.yaml").write_text(
        OmegaConf.to_yaml(composed("run=train", "model=t5_small"), resolve=True)
    )
    tmp_path.joinpath("metrics.json").write_text("{}")
    tmp_path.joinpath("model").mkdir()  # what the stage train writes last
    for same in (["run=all"], ["run=train", "logger=wandb"], ["runs=elsewhere"]):
        assert finished(tmp_path, composed("model=t5_small", *same))
    for key, other in (
        ("run", "run=evaluate"),
        ("run", "run=predict"),
        ("seed", "seed=2"),
        ("trainer.logging_steps", "trainer.logging_steps=3"),
    ):
        with pytest.raises(UserError, match=f"another '{key}'"):
            finished(tmp_path, composed("model=t5_small", other))


def test_a_step_has_as_many_examples_however_they_are_dealt_out(tmp_path: Path, monkeypatch) -> None:
    prepare()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = {
            size: compose("config", [f"trainer.batch_size={size}", "trainer.gradient_accumulation_steps=2"])
            for size in (4, 8)
        }
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(configs[8], resolve=True))
    assert not finished(tmp_path, configs[8])  # of an older version, which wrote no number of processes
    (tmp_path / "environment.json").write_text('{"processes": 1}')
    for size, processes in ((8, 1), (4, 2)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        assert not finished(tmp_path, configs[size])
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(UserError, match="holds a run of 16 examples a step, and these would be 8"):
        finished(tmp_path, configs[4])
