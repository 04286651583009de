"""README.md's commands are run as they are written, made short by overrides after them; so is its Python snippet."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file

from tests.models.test_sequence_format import CHAT, pretrained
from tests.saved_model import save_model
from tests.sweeps.planning import planned
from warmup.command_line import FACTS, prepare
from warmup.config.checks import check
from warmup.config.groups import CONF
from warmup.data.toy import generate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ["model.width=16", "model.heads=2", "model.layers=1", "model.feed_forward=32", "model.vocabulary_size=300"]
SHORT = ["trainer.max_steps=2", "trainer.evaluate_every=2", "trainer.batch_size=4", "task.max_target_tokens=8"]
TOY = ["data.train_size=16", "data.validation_size=4", "data.test_size=4"]
# What follows each command to make it short, by the words that it begins with.
RUNS: dict[str, list[str]] = {
    "": [*SHORT, *SMALL, *TOY],
    "--help": [],
    "experiment=multi30k method=sft": [*SHORT, *SMALL],
    "-m experiment=multi30k_epoch": ["trainer.evaluate_every=3", *SHORT[2:], "seed=1"],
    "-m task=logiqa data=local": [*SHORT, *SMALL, "data.max_test_examples=4"],
    "task=translation_de_en data=local": [*SHORT, *SMALL],
    "task=custom": [*SHORT, "model.pretrained=outputs/RUN/model"],  # t5_small is on the hub
    "task=summarization data=local": [*SHORT, *SMALL],
    "run=evaluate": ["hydra.run.dir=outputs/evaluated"],
    "run=predict": ["hydra.run.dir=outputs/predicted"],
    "run=score": [],
    "run=tables runs=outputs": [],
}
# Which command must have run before another one.
BEFORE = {
    "-m experiment=multi30k_epoch": "experiment=multi30k method=sft",
    "run=tables runs=outputs": "run=evaluate",
}
# Why a command is composed and checked, every job of it, and not run.
CHECKED = {
    "-m experiment=paper_grid": "66 runs of published models; checked with one seed",
    "-m experiment=paper_summarization": "six runs of a published model; checked with one seed",
    "paper=logiqa_llama": "a published, gated model",
    "paper=summarization": "torchrun on eight GPUs, and a published model",
    "run=tables runs=outputs/FOLDER": "as run=tables above",
}
# Overrides between backticks in running text, and what they need beside them.
BESIDE = {
    "hydra/launcher=submitit_slurm": ["-m"],
    "hydra/launcher=joblib": ["-m"],
    "data.train.path=": ["data=hub", "task=summarization"],
    "data.validation=": ["data=local", "task=summarization", "data.train=news.csv"],
    "data.test=": ["data=local", "task=summarization", "data.train=news.csv"],
    "runs=": ["run=tables"],
    "run=tables": [],
}
QUESTIONS = ["zwei Hunde", "ein Mann am Strand läuft", "ein Ball", "die Frau liest zwei Bücher am See"]


def arguments_of(text: str) -> list[str]:
    """The words after `scripts/train.py` of one command line."""
    words = shlex.split(text, comments=True)
    return words[words.index("scripts/train.py") + 1 :]


def commands() -> list[list[str]]:
    """The arguments of each command of the README: of those that stand indented, and those between backticks."""
    whole = README.replace("\\\n", " ")
    indented = [line for line in whole.splitlines() if line.startswith("    ") and "scripts/train.py" in line]
    return [arguments_of(text) for text in [*indented, *re.findall(r"`(python scripts/train\.py[^`]*)`", whole)]]


def overrides_in_text() -> list[list[str]]:
    """Overrides between backticks, without a command before them."""
    text = "\n".join(line for line in README.splitlines() if not line.startswith("    "))
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    return [shlex.split(span) for span in spans if re.match(r"'?(-m )?[a-z_./]+=\S", span)]


def rule_of(arguments: list[str], rules: Any) -> str | None:
    """The longest rule that the command begins with; the empty one is the bare command's alone."""
    words = " ".join(arguments)
    fitting = [rule for rule in rules if words == rule or (rule and words.startswith(rule + " "))]
    return max(fitting, key=len, default=None)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name, the data beside it, and a model in outputs/."""
    folder = tmp_path_factory.mktemp("readme")
    work, data = folder / "work", folder / "shared" / "data"
    (work / "outputs" / "FOLDER").mkdir(parents=True)
    german = [f"{text} {number}" for number in range(10) for text in QUESTIONS]
    english = [f"a text of number {number}" for number in range(len(german))]
    for name, lines in (("train", 40), ("test", 6)):
        (work / f"{name}.de").write_text("\n".join(german[:lines]) + "\n")
        (work / f"{name}.en").write_text("\n".join(english[:lines]) + "\n")
    (work / "mt.en").write_text("\n".join(english[1:7]) + "\n")
    (work / "questions.txt").write_text("\n".join(QUESTIONS) + "\n")
    pairs = [{"question": d, "reply": e} for d, e in zip(german, english, strict=True)]
    (work / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    rows = [f'"{d}","{e}"\n' for d, e in zip(german, english, strict=True)]
    (work / "news.csv").write_text("body,title\n" + "".join(rows))
    (data / "logiqa2").mkdir(parents=True)
    records = generate("logiqa", 40, 0)
    (data / "logiqa2" / "dev.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (data / "multi30k").mkdir()
    for stem, lines in (("train", 24), ("val", 4), ("test_2016_flickr", 4)):
        for side, texts in (("de", german), ("en", english)):
            with gzip.open(data / "multi30k" / f"{stem}.{side}.gz", "wt", encoding="utf-8") as file:
                file.write("\n".join(texts[:lines]) + "\n")
    save_model(work / "outputs" / "RUN" / "model", [*german, *english])
    return work


Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run_readme(workspace: Path) -> Run:
    """Run the command of a rule in `workspace`, once, offline."""
    done: dict[str, subprocess.CompletedProcess[str]] = {}

    def run(rule: str) -> subprocess.CompletedProcess[str]:
        if rule not in done:
            (arguments,) = (words for words in commands() if rule_of(words, [*RUNS, *CHECKED]) == rule)
            env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MULTI30K": "../shared/data/multi30k"}
            env.pop("HYDRA_FULL_ERROR", None)
            program = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, *RUNS[rule]]
            done[rule] = subprocess.run(program, cwd=workspace, env=env, capture_output=True, text=True, timeout=300)
        return done[rule]

    return run


def test_every_command_has_a_rule_and_every_rule_a_command() -> None:
    found = [rule_of(arguments, [*RUNS, *CHECKED]) for arguments in commands()]
    assert None not in found, commands()[found.index(None)]
    assert sorted(map(str, found)) == sorted([*RUNS, *CHECKED])


@pytest.mark.parametrize("rule", RUNS)
def test_a_command_runs_as_it_is_written(rule: str, run_readme: Run) -> None:
    if rule in BEFORE:
        run_readme(BEFORE[rule])
    result = run_readme(rule)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "error: " not in result.stderr


@pytest.fixture
def in_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(workspace)
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def check_words(words: list[str]) -> None:
    """Compose and check what a command would run, every job of a sweep."""
    if "-m" not in words:
        check(compose("config", words), FACTS)
        return
    shorter = ["seed=1"] if any(word.startswith("method=") for word in words) else ["seed=1", "method=warmup"]
    overrides = [word for word in words if word != "-m"] + shorter
    planned(*overrides)


@pytest.mark.usefixtures("in_workspace")
@pytest.mark.parametrize("rule", CHECKED)
def test_a_command_that_is_too_large_here_is_checked(rule: str) -> None:
    (arguments,) = (words for words in commands() if rule_of(words, [*RUNS, *CHECKED]) == rule)
    check_words(arguments)


@pytest.mark.usefixtures("in_workspace")
@pytest.mark.parametrize("words", overrides_in_text(), ids=" ".join)
def test_overrides_in_the_text_are_accepted(words: list[str]) -> None:
    beside = next((extra for key, extra in BESIDE.items() if words[0].startswith(key)), [])
    check_words([*beside, *(word.replace("...", "news.csv").replace("[a,b]", "[outputs]") for word in words)])


def answered_by_the_snippet(folder: Path, sources: list[str], page: str = README) -> list[str]:
    """What the Python of the README, or of a model card, answers, run as it stands there but for the folder."""
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"^folder = .*$", snippet, re.MULTILINE)
    scope: dict[str, Any] = {}
    exec(snippet.replace(line, f"folder = {str(folder)!r}"), scope)  # the page's own words
    return [scope["answer"](source) for source in sources]


def predicted(file: Path) -> tuple[list[str], list[str]]:
    """The sources and predictions of a run."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [record["source"] for record in records], [record["prediction"] for record in records]


def test_the_snippet_answers_as_the_command_did(workspace: Path, run_readme: Run) -> None:
    assert run_readme("run=predict").returncode == 0
    sources, predictions = predicted(workspace / "outputs" / "predicted" / "predictions.jsonl")
    assert sources == QUESTIONS and len(set(predictions)) > 1
    assert answered_by_the_snippet(workspace / "outputs" / "RUN" / "model", sources) == predictions


@pytest.mark.parametrize("kind", ["chat", "sft", "fresh"])
def test_the_snippet_answers_as_a_run_of_a_causal_model_did(kind: str, tmp_path: Path) -> None:
    """One that reads a chat template and a worded separator, with warmups and without, and one built fresh."""
    long = ["trainer.learning_rate=1e-5"]
    words = [*SHORT, *long, *TOY, "model=tiny_llama", "task.max_source_tokens=200", "method.max_warmup_tokens=4"]
    if kind == "fresh":
        words += SMALL
    else:
        chat = pretrained(tmp_path / "chat", "llama", CHAT, ["<|user|>", "<|assistant|>"])
        weights = load_file(chat / "model.safetensors")  # larger ones, so that answers differ
        larger = {name: value * (4.0 if value.ndim == 2 else 1.0) for name, value in weights.items()}
        save_file(larger, chat / "model.safetensors", {"format": "pt"})
        words += [f"model.pretrained={chat}"]
    method = ["method=sft"] if kind == "sft" else ["method=warmup", "method.sft_steps=1", "method.num_samples=2"]
    words = [word for word in words if kind != "sft" or not word.startswith("method.")]
    program = [sys.executable, str(ROOT / "scripts" / "train.py"), *words, *method, f"hydra.run.dir={tmp_path}/run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    sources, predictions = predicted(tmp_path / "run" / "predictions.jsonl")
    model = tmp_path / "run" / "model"
    card = (model / "README.md").read_text(encoding="utf-8")
    assert answered_by_the_snippet(model, sources) == predictions
    assert answered_by_the_snippet(model, sources, card) == predictions


def test_a_model_card_has_the_snippet_of_the_readme() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippet == (ROOT / "warmup" / "reporting" / "card" / "answer.py.txt").read_text(encoding="utf-8")
