"""Whatever a file of the outside says, none of it runs: not when it is unpickled, not as code, not in a shell."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from tests.bad_input.command import ROOT, command
from tests.bad_input.conftest import Refused
from tests.saved_model import save_model
from tests.test_architecture import MODULES, SCRIPTS, named, tree_of

__all__ = ["comet_folder", "xlm_roberta"]  # fixtures, for COMET's checkpoint
from tests.metrics.conftest import comet_folder, xlm_roberta

RAN = "ran"  # the file that shows it


class Runs:
    """Unpickling one makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (RAN,)


@pytest.fixture(autouse=True)
def _whatever_torch_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch unpickles everything for those who leave it to torch; only what asks for `weights_only` stays safe."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.fixture
def model(workplace: Path) -> Path:
    save_model(workplace / "model", ["a small dog runs", "two men sit by the lake"])
    (workplace / "in.txt").write_text("a dog runs\n")
    return workplace / "model"


def test_the_trap_works(workplace: Path) -> None:
    torch.save({"a": Runs()}, "trap.bin")
    torch.load("trap.bin")
    assert (workplace / RAN).is_dir()


def pickles(path: Path) -> None:
    torch.save({"shared.weight": torch.zeros(2), "trap": Runs()}, path)


def test_weights_of_a_model(model: Path, workplace: Path, refused: Refused) -> None:
    (model / "model.safetensors").unlink()
    pickles(model / "pytorch_model.bin")
    assert "model" in refused("run=predict", "checkpoint=model", "inputs=in.txt")
    (model / "pytorch_model.bin").rename(model / "pytorch_model-00001-of-00001.bin")
    index = {"metadata": {}, "weight_map": {"shared.weight": "pytorch_model-00001-of-00001.bin"}}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "model" in refused("run=predict", "checkpoint=model", "inputs=in.txt")
    assert not (workplace / RAN).exists()


def test_adapters(model: Path, workplace: Path, refused: Refused) -> None:
    adapters = workplace / "adapters"
    adapters.mkdir()
    settings = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "base_model_name_or_path": str(model), "r": 2}
    (adapters / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": ["q", "v"]}))
    for name in ("tokenizer.json", "tokenizer_config.json", "warmup_config.json"):
        shutil.copy(model / name, adapters / name)
    pickles(adapters / "adapter_model.bin")
    assert "adapters" in refused("run=predict", "checkpoint=adapters", "inputs=in.txt")
    assert not (workplace / RAN).exists()


def test_code_beside_a_model(model: Path, workplace: Path) -> None:
    """Neither of a type that is known nor of one that is not."""
    (model / "code.py").write_text(f"import os\nos.mkdir({RAN!r})\nclass Model: ...\nclass Config: ...\n")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForSeq2SeqLM": "code.Model"}
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["code.Model", "code.Model"]}
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for kind in ("t5", "unheard_of"):
        (model / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        command("run=predict", "checkpoint=model", "inputs=in.txt")
        assert not (workplace / RAN).exists()


def test_the_checkpoint_of_comet(comet_folder: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    folder = Path(shutil.copytree(comet_folder, workplace / "comet"))
    (workplace / "p.jsonl").write_text('{"source": "ein Hund", "prediction": "a dog", "reference": "the dog"}\n')
    words = ["run=score", "predictions=p.jsonl", "task.metrics=[bleu,comet]", "evaluation.comet_model=comet"]
    ended = command(*words, "hydra.run.dir=good")
    assert ended.status == 0 and "comet" in json.loads((workplace / "good/metrics.json").read_text())["scores"]
    file = folder / "checkpoints" / "model.ckpt"
    torch.save({**torch.load(file, weights_only=True), "trap": Runs()}, file)
    ended = command(*words, "hydra.run.dir=bad")
    assert "comet" in json.loads((workplace / "bad/metrics.json").read_text())["skipped"]
    assert not (workplace / RAN).exists()


def test_the_encoder_of_bertscore(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.metrics.conftest import SIZES

    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    save_model(workplace / "encoder", ["a dog"])
    (workplace / "encoder" / "model.safetensors").unlink()
    config = {"model_type": "roberta", "vocab_size": 300, **SIZES}
    (workplace / "encoder" / "config.json").write_text(json.dumps(config))
    pickles(workplace / "encoder" / "pytorch_model.bin")
    (workplace / "p.jsonl").write_text('{"prediction": "a dog", "reference": "the dog"}\n')
    words = ["run=score", "predictions=p.jsonl", "task.metrics=[bleu,bertscore]", "evaluation.bertscore_rescale=false"]
    command(*words, "evaluation.bertscore_model=encoder", "hydra.run.dir=bad")
    assert "bertscore" in json.loads((workplace / "bad/metrics.json").read_text())["skipped"]
    assert not (workplace / RAN).exists()


@pytest.mark.parametrize("name", ["train.pkl", "train.pickle", "train.pt", "train.py"])
def test_a_folder_of_data(name: str, workplace: Path, refused: Refused) -> None:
    folder = workplace / "set"
    folder.mkdir()
    if name.endswith(".py"):
        (folder / "set.py").write_text(f"import os\nos.mkdir({RAN!r})\n")
    else:
        (folder / name).write_bytes(pickle.dumps(Runs()))
    words = ["task=custom", "data=hub", *(f"data.{split}.path=set" for split in ("train", "validation", "test"))]
    assert "set" in refused(*words, "method=sft")
    assert not (workplace / RAN).exists()


def test_a_table_that_is_a_pickle(workplace: Path, refused: Refused) -> None:
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        (workplace / name).write_bytes(pickle.dumps(Runs()))
        assert name in refused("task=custom", "data=local", f"data.train={name}", "method=sft")
    with zipfile.ZipFile(workplace / "a.parquet", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Runs()))
    assert "a.parquet" in refused("task=custom", "data=local", "data.train=a.parquet", "method=sft")
    assert not (workplace / RAN).exists()


def test_hydras_own_pickle(workplace: Path, refused: Refused) -> None:
    (workplace / "config.pickle").write_bytes(pickle.dumps(Runs()))
    assert "pickle" in refused("--experimental-rerun", "config.pickle")
    assert not (workplace / RAN).exists()


@pytest.mark.parametrize("value", ["$(mkdir ran)", "`mkdir ran`", "; mkdir ran;", "a && mkdir ran", "| mkdir ran"])
def test_values_reach_no_shell(value: str, workplace: Path) -> None:
    (workplace / "p.txt").write_text("a\n")
    words = ["run=score", "predictions=p.txt", "references=p.txt", "hydra.run.dir=out"]
    ended = command(*words, f"model.name='{value}'", f"logger.tags=['{value}']")
    assert ended.status == 0, ended.errors
    command(f"data.train='{value}'", "data=local", "task=custom")
    command(f"checkpoint='{value}'", "run=evaluate")
    assert not (workplace / RAN).exists()


RUN_TEXT = {"eval", "exec", "compile"}  # as functions; models and patterns have methods of these names
RUN_WORDS = {"system", "popen", "read_pickle", "unsafe_load", "full_load"}


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=named)
def test_nothing_of_ours_runs_text_or_reads_pickles(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(modules), named(path)
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        where, given = f"{named(path)}:{node.lineno} calls {name}", {keyword.arg for keyword in node.keywords}
        assert name not in (RUN_WORDS if isinstance(node.func, ast.Attribute) else RUN_TEXT), where
        assert "shell" not in given, where
        if ast.unparse(node.func) == "torch.load":
            assert "weights_only" in given, where


def test_this_repository_holds_no_pickle() -> None:
    assert not [path for path in (ROOT / "warmup").rglob("*") if path.suffix in (".pkl", ".pickle", ".bin")]
