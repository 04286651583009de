"""docs/configuration.md against the configuration as a user gets it: every key, every default, every list."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from warmup.command_line import FACTS, prepare
from warmup.config.architectures import ARCHITECTURES
from warmup.config.checks import check
from warmup.config.groups import CONF, task_names
from warmup.config.schema import (
    Config,
    DataConfig,
    EvaluationConfig,
    LoggerConfig,
    MethodConfig,
    ModelConfig,
    TaskConfig,
    TrainerConfig,
    WarmupMethod,
)
from warmup.metrics.registry import METRICS, score_kinds

PAGE = CONF.parent / "docs" / "configuration.md"
FROM_THE_GROUP = {"data.kind", "model.name", "model.pretrained", "method.name"}  # `data=local` and the like set these
WITHOUT_DEFAULTS = "task"  # every task brings its own values: its table has no such column
SPLITS = ("train", "validation", "test")
GROUPS: dict[str, type] = {
    "": Config,
    "task.": TaskConfig,
    "data.": DataConfig,
    "model.": ModelConfig,
    "method.": WarmupMethod,
    "trainer.": TrainerConfig,
    "evaluation.": EvaluationConfig,
    "logger.": LoggerConfig,
}


@dataclasses.dataclass(frozen=True)
class Documented:
    """One key of the page; `default` as it is written, None where its table has no such column."""

    key: str
    source: str | None  # `toy`, `local` or `hub`, where only that kind of data has the key; `sft` and `pause` likewise
    default: str | None
    meaning: str


def documented() -> list[Documented]:
    """Every key of every table."""
    page = PAGE.read_text(encoding="utf-8").partition("## What a run writes")[0]
    found: list[Documented] = []
    columns: list[str] = []
    for line in page.splitlines():
        if not line.startswith("| "):
            columns = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not columns:
            columns = cells
        elif not cells[0].startswith("---"):
            found += _row(cells, "default" in columns)
    return found


def _row(cells: list[str], has_default: bool) -> Iterator[Documented]:
    named, note = re.sub(r"\(.*\)", "", cells[0]), "".join(re.findall(r"\((.*)\)", cells[0]))
    keys: list[str] = []
    for name in re.findall(r"`([^`]+)`", named):  # `data.train.path`, `.name`
        keys.append(keys[0].rpartition(".")[0] + name if name.startswith(".") else name)
    keys = [_of_split(key, split) for split in ["train", *re.findall(r"`([^`]+)`", note)] for key in keys]
    source = next((kind for kind in ("toy", "local", "hub", "sft", "pause") if re.search(rf"\b{kind}$", note)), None)
    defaults: list[str | None] = [None] * len(keys)
    if has_default:
        written = cells[1].replace("`", "").split(", ")
        defaults = [*written] * (len(keys) if len(written) == 1 else 1)
    for key, default in zip(dict.fromkeys(keys), defaults, strict=False):
        yield Documented(key, source, default, cells[-1])


def _of_split(key: str, split: str) -> str:
    return re.sub(r"\.train(?=[._]|$)", f".{split}", key) if split != "train" else key


DOCUMENTED = documented()


@cache
def composed(*overrides: str) -> dict[str, Any]:
    """The configuration that these overrides compose, before any value is filled in."""
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = OmegaConf.to_container(compose("config", list(overrides)), resolve=False)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def value_of(config: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def leaves(part: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that hold a value; `fields` is one, a mapping that users replace as a whole."""
    for name, value in part.items():
        if isinstance(value, dict) and name != "fields":
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def choices_of(key: str) -> tuple[str, ...]:
    """What the schema allows; empty where anything goes, or where it has no such key."""
    if key == "task.name":
        return task_names()
    if key == "model.architecture":
        return tuple(ARCHITECTURES)
    group, _, name = key.rpartition(".")
    kind = MethodConfig if key == "method.name" else GROUPS[f"{group}." if group else ""]
    return next((field.metadata.get("choices", ()) for field in dataclasses.fields(kind) if field.name == name), ())


def choice(source: str | None) -> str:
    """What chooses the group that has a key of this source."""
    return f"method={source}" if source in ("sft", "pause") else f"data={source or 'toy'}"


@pytest.mark.parametrize("source", ["toy", "local", "hub"])
def test_every_key_is_documented_and_no_other(source: str) -> None:
    exist = set(leaves(composed(f"data={source}")))
    page = {entry.key for entry in DOCUMENTED if entry.source in (None, source)}
    assert page == exist


@pytest.mark.parametrize("method", ["sft", "pause"])
def test_every_key_of_another_method_is_documented_and_no_other(method: str) -> None:
    exist = {key for key in leaves(composed(f"method={method}")) if key.startswith("method.")}
    assert {entry.key for entry in DOCUMENTED if entry.source == method} | {"method.name"} == exist


@pytest.mark.parametrize(
    "entry",
    [entry for entry in DOCUMENTED if entry.default and entry.default != "from the task"],
    ids=lambda entry: f"{entry.key}-{entry.source}" if entry.source else entry.key,
)
def test_a_documented_default_is_what_one_gets(entry: Documented) -> None:
    assert entry.default is not None
    real = value_of(composed(choice(entry.source)), entry.key)
    stated = yaml.safe_load(entry.default)
    assert stated == real and type(stated) is type(real)


def test_only_what_a_group_sets_has_no_default() -> None:
    unstated = {entry.key for entry in DOCUMENTED if entry.default == ""}
    assert unstated == FROM_THE_GROUP
    without_column = {entry.key.partition(".")[0] for entry in DOCUMENTED if entry.default is None}
    assert without_column == {WITHOUT_DEFAULTS}


@pytest.mark.parametrize(
    "entry", [entry for entry in DOCUMENTED if entry.default == "from the task"], ids=lambda entry: entry.key
)
def test_what_comes_from_the_task_does(entry: Documented) -> None:
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = check(compose("config", ["data=hub", "task=translation_de_en"]), FACTS)
    split, name = entry.key.split(".")[1:]
    assert getattr(getattr(config.data, split), name) == getattr(getattr(config.task.hub, split), name) is not None


CHOICES = [entry for entry in DOCUMENTED if entry.key.count(".") < 2 and entry.source is None]
CHOICES = [entry for entry in CHOICES if choices_of(entry.key)]


@pytest.mark.parametrize("entry", CHOICES, ids=lambda entry: entry.key)
def test_the_choices_that_are_listed_are_those_there_are(entry: Documented) -> None:
    listed = re.findall(r"`([^`]+)`", entry.meaning.partition(";")[0])
    assert set(listed) == set(choices_of(entry.key))


def test_the_metrics_that_are_listed_are_those_there_are() -> None:
    meaning = {entry.key: entry.meaning for entry in DOCUMENTED}
    parts = dict(part.strip().split(": ") for part in meaning["task.metrics"].split(";"))
    assert parts.pop("others") == "any"
    assert all(FACTS.metrics_for(task, False) == list(METRICS) for task in ("custom", "qa16", "svamp"))
    listed = {task: re.findall(r"`([^`]+)`", names) for task, names in parts.items()}
    assert listed.pop("with options") == FACTS.metrics_for("logiqa", True)
    assert listed == {task: FACTS.metrics_for(task, False) for task in ("translation", "summarization")}
    assert re.findall(r"`([^`]+)`", meaning["task.selection_metric"]) == list(score_kinds(with_models=False))


def test_the_page_of_the_metrics_has_a_row_for_each() -> None:
    page = (PAGE.parent / "metrics.md").read_text(encoding="utf-8").partition("## Metrics")[2].partition("\n#")[0]
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")][1:]
    listed = [
        (name.strip(" `"), re.findall(r"`([^`]+)`", scores), package.strip()) for name, scores, _, package in rows
    ]
    assert listed == [(metric.name, metric.score_names, metric.package) for metric in METRICS.values()]
