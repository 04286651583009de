"""Every wrong value dies here, when the configuration is composed, before anything heavy starts."""

from __future__ import annotations

import dataclasses
import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from warmup.config.estimators import check_estimator
from warmup.config.facts import Facts
from warmup.config.languages import TOY, resolve_language
from warmup.config.schema import (
    Config,
    HubData,
    HubSplit,
    LocalData,
    LoggerConfig,
    TaskConfig,
    WarmupMethod,
)
from warmup.config.templates import check_option_template, record_fields
from warmup.errors import UserError, nearest, wrong_value

SPLITS = ("train", "validation", "test")


def check(composed: DictConfig, facts: Facts) -> Config:
    """The typed configuration, once every value in it has been found good; `facts` are those of later rooms.

    Raises:
        UserError: naming the key, what it was and what is allowed.
    """
    for own in dataclasses.fields(Config):
        if own.name not in composed:  # `~key` gets past Hydra's own check
            raise UserError(f"{own.name} was taken away (~{own.name}); allowed: to set it, {own.name}=VALUE")
    try:
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} is not set: give it as {error.full_key}=VALUE") from error
    except InterpolationKeyError as error:
        raise UserError(f"{error.full_key}: {error.msg}") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    for key, value, field in _leaves(config):
        check_value(key, value, field)
    _check_task(config.task, facts, trains=config.run in ("all", "train"))
    _check_languages(config)
    if config.run in ("all", "train", "evaluate"):
        _check_data(config)
    _check_model(config)
    _check_training(config)
    _check_decoding(config)
    _check_metric_models(config, facts)
    _check_run(config)
    _check_logger(config.logger)
    return config


def _leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    known = [field.name for field in dataclasses.fields(part)]
    for name in vars(part).keys() - set(known):  # `+key=value` gets past Hydra's own check
        raise UserError(f"there is no key {prefix + name!r}; allowed: {', '.join(known)}{nearest(name, known)}")
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, field


def check_value(key: str, value: Any, field: dataclasses.Field[Any]) -> None:
    """Hold `value` against the range or the choices in its field's metadata.

    Raises:
        UserError: it is outside.
    """
    if field.metadata.get("folders"):
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise wrong_value(key, value, "a folder, a list of folders as [a,b], or a glob as 'outputs/2026-*'")
        return
    if value is None:
        return
    if value == "":
        raise wrong_value(key, value, "a text that is not empty")
    if field.metadata.get("mapping"):
        if not isinstance(value, dict) or not all(isinstance(word, str) for pair in value.items() for word in pair):
            raise wrong_value(key, value, "a mapping of names, as '{source: question, target: reply}'")
        return
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise wrong_value(key, value, ", ".join(choices), nearest(value, choices))
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise wrong_value(key, value, range_in_words(field))


def range_in_words(field: dataclasses.Field[Any]) -> str:
    """`1 to 256`, `at least 1`, or the choices; the empty string when anything goes."""
    if choices := field.metadata.get("choices"):
        return ", ".join(choices)
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is None and high is None:
        return ""
    return f"at least {low}" if high is None else f"{low} to {high}"


def _check_task(task: TaskConfig, facts: Facts, trains: bool) -> None:
    for key in ("source_template", "target_template"):
        record_fields(f"task.{key}", getattr(task, key))
    allowed = facts.metrics_for(task.name)
    if not task.metrics:
        raise wrong_value("task.metrics", [], f"at least one of {', '.join(allowed)}")
    for metric in task.metrics:
        if metric not in allowed:
            raise wrong_value(
                "task.metrics", metric, f"for {task.name}: {', '.join(allowed)}", nearest(metric, allowed)
            )
        if task.metrics.count(metric) > 1:
            raise UserError(f"task.metrics names {metric} twice; allowed: each metric once")
    if not trains:
        return
    scores = facts.selection_scores(task.metrics)
    if not scores:
        quick = [metric for metric in allowed if facts.selection_scores([metric])]
        raise wrong_value("task.metrics", task.metrics, f"one of {', '.join(quick)} among them, to pick the checkpoint")
    if task.selection_metric not in scores:
        suggestion = nearest(task.selection_metric, scores)
        raise wrong_value("task.selection_metric", task.selection_metric, ", ".join(scores), suggestion)


def _check_languages(config: Config) -> None:
    task = config.task
    for key in ("source_language", "target_language"):
        if text := getattr(task, key):
            resolve_language(f"task.{key}", text)
        elif task.name == "translation":
            raise wrong_value(f"task.{key}", text, "a language, as de or German")
    if (
        task.name == "translation"
        and config.data.kind != "toy"
        and config.run in ("all", "train", "evaluate")
        and resolve_language("task.target_language", str(task.target_language)) == TOY
    ):
        raise wrong_value(
            "task.target_language",
            task.target_language,
            f"the language of your data (data={config.data.kind}), as task.source_language=de task.target_language=en, "
            "or a preset such as task=translation_de_en",
        )


def _check_data(config: Config) -> None:
    if isinstance(config.data, LocalData):
        _check_local(config.data, config.run)
    if isinstance(config.data, HubData):
        for name in needed_splits(config.run):
            split: HubSplit = getattr(config.data, name)
            # not an interpolation in YAML, since Hydra then could not replace the mapping as a whole
            split.fields = split.fields or getattr(config.task.hub, name).fields
            if not split.path:
                raise UserError(f"data.{name}.path is not set: name a hub data set or a folder, data.{name}.path=VALUE")


def needed_splits(run: str) -> tuple[str, ...]:
    """The splits that a stage reads."""
    return {"all": SPLITS, "train": SPLITS[:2], "evaluate": SPLITS[2:]}[run]


def _check_local(data: LocalData, run: str) -> None:
    for split in SPLITS:
        table, source, target = (getattr(data, f"{split}{part}") for part in ("", "_source", "_target"))
        if table and (source or target):
            raise UserError(
                f"data.{split} and data.{split}_source/_target are both set; allowed: one table or two parallel files"
            )
        if bool(source) != bool(target):
            present, absent = ("source", "target") if source else ("target", "source")
            raise UserError(
                f"data.{split}_{present} is set without data.{split}_{absent}; parallel files come in pairs"
            )
        for key, path in ((split, table), (f"{split}_source", source), (f"{split}_target", target)):
            if path:
                check_file(f"data.{key}", path)
    named = {split: bool(getattr(data, split) or getattr(data, f"{split}_source")) for split in SPLITS}
    if not named["train"] and not (run == "evaluate" and named["test"]):
        raise UserError(
            "data.train is not set: name a file with data.train=FILE, or two with data.train_source, _target"
        )
    taken = sum(getattr(data, f"{split}_fraction") for split in SPLITS[1:] if not named[split])
    if taken >= 1:
        raise wrong_value(
            "data.validation_fraction + data.test_fraction", round(taken, 6), "below 1, so that training data is left"
        )


def check_file(key: str, path: str) -> None:
    """Raises UserError unless `path` is a readable file; names the nearest file of its folder."""
    file = Path(path).expanduser()
    if file.is_file() and os.access(file, os.R_OK):
        return
    if file.is_dir():
        raise wrong_value(key, path, "a file, and this is a folder")
    if file.exists():
        raise wrong_value(key, path, "a file that may be read")
    beside = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
    near = difflib.get_close_matches(file.name, beside, n=1)
    suggestion = f"; did you mean '{file.parent / near[0]}'?" if near else ""
    raise wrong_value(key, path, "an existing file", suggestion)


def _check_model(config: Config) -> None:
    model = config.model
    if model.pretrained is None and model.width % model.heads:
        raise wrong_value("model.width", model.width, f"a multiple of model.heads={model.heads}")


def _check_training(config: Config) -> None:
    steps = config.trainer.max_steps
    if steps == 0:
        raise wrong_value("trainer.max_steps", steps, "-1 (as trainer.epochs says) or at least 1")
    if steps > 0 and config.trainer.epochs is not None:
        raise UserError(
            f"trainer.epochs={config.trainer.epochs:g} and trainer.max_steps={steps} are both set; "
            "allowed: one of them (trainer.max_steps=-1 goes by trainer.epochs)"
        )
    if steps < 0 and config.trainer.epochs is None:
        raise UserError("trainer.epochs is not set, and trainer.max_steps=-1 goes by it: give trainer.epochs=VALUE")
    method = config.method
    if isinstance(method, WarmupMethod) and 0 < steps <= (method.sft_steps or 0):
        raise wrong_value("method.sft_steps", method.sft_steps, f"below trainer.max_steps={steps}")
    if isinstance(method, WarmupMethod):
        check_estimator(method)
    if config.device == "cuda":
        import torch  # here, since it takes seconds that a typing mistake or --help need not wait for

        if not torch.cuda.is_available():
            raise wrong_value("device", "cuda", "auto or cpu: this machine has no usable CUDA device")


def _check_decoding(config: Config) -> None:
    evaluation = config.evaluation
    for key, draws in (("num_warmups", evaluation.num_warmups > 1), ("sample_warmup", evaluation.sample_warmup)):
        if draws and evaluation.warmup_num_beams > 1:
            value = str(getattr(evaluation, key)).lower()
            raise UserError(
                f"evaluation.{key}={value} draws warmups, evaluation.warmup_num_beams={evaluation.warmup_num_beams} "
                f"searches for one; allowed: one of them (evaluation.warmup_num_beams=1 with evaluation.{key})"
            )
    if config.task.name == "logiqa" and evaluation.num_warmups > 1 and config.run in ("all", "evaluate"):
        check_option_template(config.task.target_template)


def _check_metric_models(config: Config, facts: Facts) -> None:
    """A mistyped path of a metric's model must not be found out after a day of training; hub names are the hub's."""
    for key in facts.model_keys(config.task.metrics):
        path = getattr(config.evaluation, key)
        if _looks_like_a_path(path) and not Path(path).expanduser().exists():
            raise wrong_value(f"evaluation.{key}", path, "a hub name, or an existing file or folder")


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith(".ckpt") or name.count("/") > 1


def _check_logger(logger: LoggerConfig) -> None:
    """What wandb would refuse once the run has begun."""
    if not 1 <= len(logger.project) <= 128 or set(logger.project) & set("/\\#?%:"):
        raise wrong_value("logger.project", logger.project, "1 to 128 letters, none of / \\ # ? % :")
    for tag in logger.tags:
        if not 1 <= len(tag) <= 64:
            raise wrong_value("logger.tags", tag, "tags of 1 to 64 letters")


def _check_run(config: Config) -> None:
    if config.checkpoint and config.run in ("all", "train"):
        raise wrong_value(
            "checkpoint",
            config.checkpoint,
            f"with run=evaluate or run=predict only; to train on from a model, model.pretrained={config.checkpoint}",
        )
    if config.inputs and config.run != "predict":
        raise wrong_value("inputs", config.inputs, "with run=predict only")
    if config.run in ("evaluate", "predict") and not config.checkpoint and not config.model.pretrained:
        raise UserError(
            f"checkpoint is not set: run={config.run} needs a trained model, checkpoint=outputs/RUN/model or a hub name"
        )
    if config.run == "predict":
        if not config.inputs:
            raise UserError("inputs is not set: run=predict answers a file of sources, inputs=FILE")
        check_file("inputs", config.inputs)
    if config.run == "score":
        if not config.predictions:
            raise UserError("predictions is not set: run=score scores a file of answers, predictions=FILE")
        for key in ("predictions", "references", "sources"):
            if path := getattr(config, key):
                check_file(key, path)
    if config.run == "tables":
        run_folders(config.runs)


def run_folders(runs: str | list[str]) -> list[Path]:
    """The folders that `runs` names: one or a list, each a path or a glob such as outputs/2026-*.

    Raises:
        UserError: one of them matches no folder.
    """
    found = []
    for name in [runs] if isinstance(runs, str) else runs:
        path = Path(name).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        folders = [match for match in matches if match.is_dir()]
        if not folders:
            beside = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise wrong_value("runs", name, "a folder that holds runs, a list [a,b] or a glob", nearest(path, beside))
        found += folders
    return found
