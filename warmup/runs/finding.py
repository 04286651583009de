"""Finding runs in a folder, and telling which of them are seeds of one and the same experiment.

A finished run left `metrics.json` in its folder, a failed one `error.txt`, one that is under way or was killed neither.
Two runs are comparable when their resolved configurations, and what they read, agree in everything but method, seed and
what changes no score (`warmup.config.neutral_keys`). A folder that cannot be read costs a line of its own, never the
table.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from warmup.config.neutral_keys import tells_runs_apart
from warmup.errors import UserError
from warmup.files import read_json
from warmup.metrics.metric import Score
from warmup.runs.inputs import INPUTS_FILE

METHOD_NAMES = {"sft": "SFT", "warmup": "warmup"}
YAML_WORDS = {None: "null", True: "true", False: "false"}
# Digests in inputs.json that stand for the names of what a run read, in as many digits as are shown.
BY_CONTENT = ("train_examples", "validation_examples", "test_examples", "model.pretrained", "checkpoint")
DIGITS = 12
TRAINING_STAGES = ("all", "evaluate")  # those that end in a metrics.json


@dataclass(frozen=True)
class Run:
    """One `metrics.json`.

    Attributes:
        finished: when it was written, in seconds since the epoch.
        invalid_answers: share (0 to 1) of answers that are no label; None where no label was asked for.
        selection_metric: the dev score that picked the best checkpoint, where the record tells.
        training_seconds: wall-clock time of training, where this run trained.
        device: the name of the processor it ran on, where environment.json tells.
        config: the resolved config.yaml beside the record, nested as in YAML; empty where there is none.
        inputs: digests of what the run read, by key (`run_inputs`); empty for a run that kept none.
    """

    folder: Path
    finished: float
    task: str
    data: str
    model: str
    method: str
    seed: int
    overrides: dict[str, str]
    split: str
    examples: int
    scores: dict[str, Score]
    chance: dict[str, dict[str, float]]
    skipped: dict[str, str]
    notes: list[str]
    invalid_answers: float | None
    selection_metric: str | None
    training_seconds: float | None = None
    device: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Each value of the configuration that tells this run from others: dotted key -> value as in YAML.

        Of a run without a config.yaml only the overrides are known. What a checkpoint was trained with is not in the
        configuration that evaluates it.
        """
        known = dict(_leaves(self.config) if self.config else self.overrides.items())
        unread = {"method", "trainer"} if self.config.get("run") == "evaluate" else set()
        unread |= {"model"} if self.config.get("checkpoint") else set()
        if known.get("trainer.precision") == "auto" and self.device:  # bfloat16 on CUDA alone
            known["trainer.precision"] = f"auto on {'cpu' if self.device == 'cpu' else 'cuda'}"
        return {k: v for k, v in known.items() if tells_runs_apart(k) and k.split(".")[0] not in unread}

    @property
    def shared_settings(self) -> dict[str, str]:
        """What SFT and warmup must share to be compared, by the names that the configuration has for it."""
        labels = {"task": self.task, "model": self.model, "data": self.data, "split": self.split}
        return labels | {key: value for key, value in self.settings.items() if not _is_of_method(key)}

    @property
    def experiment(self) -> dict[str, str]:
        """What SFT and warmup must share to be compared, where digests stand for the names of what was read."""
        digests = {key: digest[:DIGITS] for key, digest in self.inputs.items() if key in BY_CONTENT}
        named = self.shared_settings
        if any(key.endswith("_examples") for key in digests):
            named = {k: v for k, v in named.items() if k.split(".")[0] != "data" and not k.startswith("task.hub.")}
        if "model.pretrained" in digests:
            named.pop("model.revision", None)
        return named | digests

    @property
    def variant(self) -> dict[str, str]:
        """The warmup method's own settings; SFT has none that matter."""
        if self.method == "sft":
            return {}
        return {key: value for key, value in self.settings.items() if _is_of_method(key)}

    @property
    def num_samples(self) -> int | None:
        """K, the warmups sampled per input and step; None for SFT, and where no record tells."""
        known = self.variant.get("method.num_samples", "")
        return int(known) if known.isdecimal() else None


@dataclass
class FoundRuns:
    """What some folders hold.

    Attributes:
        runs: the finished ones, by path.
        failed: the folder of each failed run and the line that says why.
        notes: a line for each folder that cannot be read or is half-written.
    """

    runs: list[Run] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_runs(folders: Sequence[Path]) -> FoundRuns:
    """All runs in `folders` and below; one that is reached twice counts once.

    Raises:
        UserError: a folder is missing.
    """
    found = FoundRuns()
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; name the one that holds your runs, e.g. runs=outputs")
        names = ("metrics.json", "error.txt", "config.yaml")
        for run in sorted({path.parent for name in names for path in folder.rglob(name)}):
            if run.resolve() not in seen:
                seen.add(run.resolve())
                _add(found, run)
    return found


def _add(found: FoundRuns, folder: Path) -> None:
    stage = _read_config(folder).get("run")
    if stage == "score":  # answers that anything made: nothing says which method
        return
    if (folder / "metrics.json").exists():
        try:
            found.runs.append(_read_run(folder / "metrics.json"))
        except UserError as error:
            found.notes.append(f"Left out: {error}.")
    elif (folder / "error.txt").exists():
        found.failed.append((folder, _first_line(folder / "error.txt")))
    elif stage in TRAINING_STAGES:
        found.notes.append(f"Not finished: {folder} has no metrics.json; the command that began it goes on with it.")


def _first_line(path: Path) -> str:
    try:
        return _label(path.read_text(encoding="utf-8", errors="replace")) or "it left no reason"
    except OSError as error:
        return f"its reason cannot be read: {error.strerror or error}"


def newest_runs(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of runs of one experiment, method and seed only the newest, and a line for each that was repeated.

    A repeated run is no second seed: averaging it would shrink the spread.
    """
    repeats: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        repeats[_key(run.experiment), run.method, _key(run.variant), run.seed].append(run)
    notes = []
    for same in repeats.values():
        same.sort(key=lambda run: (run.finished, str(run.folder)))
        if len(same) > 1:
            run = same[-1]
            name = f"{run.task}, {run.model}, {METHOD_NAMES[run.method]}, seed {run.seed}"
            notes.append(f"Repeated: {name} was run {len(same)} times; only the newest counts, {run.folder}.")
    return [same[-1] for same in repeats.values()], notes


def group_by(runs: Sequence[Run], attribute: str) -> list[tuple[dict[str, str], list[Run]]]:
    """`runs` grouped by equal values of a property that is a dict ("experiment", "variant"), in natural order."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[_key(getattr(run, attribute))].append(run)
    ordered = sorted(groups.items(), key=lambda item: [(name, natural_order(value)) for name, value in item[0]])
    return [(dict(key), sorted(same, key=lambda run: run.seed)) for key, same in ordered]


def varying_words(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """For each of `settings`, in words, what tells it from the others: "num_samples 4, learning_rate default".

    A key that the others set and this one does not is "default"; where two keys end alike, they are spelt out.
    """
    keys = sorted({key for setting in settings for key in setting})
    keys = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    endings = [key.split(".")[-1] for key in keys]
    names = {key: end if endings.count(end) == 1 else key for key, end in zip(keys, endings, strict=True)}
    return [", ".join(f"{names[key]} {setting.get(key, 'default')}" for key in keys) for setting in settings]


def experiment_words(groups: Sequence[Sequence[Run]]) -> list[str]:
    """`varying_words` of the experiment of each group's runs, by its digests where all names agree."""
    named = [runs[0].shared_settings for runs in groups]
    words = varying_words(named)
    if len(set(words)) == len(words):
        return words
    digests = [runs[0].experiment for runs in groups]
    keys = {key for found in digests for key in found if key in BY_CONTENT}
    recorded = [{key: found.get(key, "not recorded") for key in keys} for found in digests]
    return varying_words([names | found for names, found in zip(named, recorded, strict=True)])


def variants_of(runs: Sequence[Run]) -> list[tuple[str, dict[str, str], list[Run]]]:
    """Each variant of warmup among `runs`, in words, as settings, and its runs; num_samples 4 comes before 16."""
    groups = group_by([run for run in runs if run.method == "warmup"], "variant")
    words = varying_words([variant for variant, _ in groups])
    found = [(word, *group) for word, group in zip(words, groups, strict=True)]
    return sorted(found, key=lambda item: natural_order(item[0]))


def _key(setting: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    # what everybody knows first: tables are sorted by this
    first = ["task", "model", "data", "split"]
    return tuple(sorted(setting.items(), key=lambda item: (first.index(item[0]) if item[0] in first else 4, item[0])))


def natural_order(text: str) -> list[tuple[int, float, str]]:
    """A sorting key by which 4 comes before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts)]


def _read_run(path: Path) -> Run:
    record = read_json(path)
    try:
        if record["method"] not in METHOD_NAMES:
            raise ValueError(f"method is {record['method']!r}")
        return Run(
            folder=path.parent,
            finished=path.stat().st_mtime,
            task=_label(record["task"]),
            data=_label(record["data"]),
            model=_label(record["model"]),
            method=str(record["method"]),
            seed=int(record["seed"]),
            overrides={_label(key): _label(value) for key, value in record["overrides"].items()},
            split=_label(record["split"]),
            examples=int(record["examples"]),
            scores={k: Score(_finite(v["value"]), _label(v["signature"])) for k, v in record["scores"].items()},
            chance={k: {way: _finite(x) for way, x in v.items()} for k, v in record["chance"].items()},
            skipped={str(key): _label(value) for key, value in record["skipped"].items()},
            notes=[_label(note) for note in record.get("notes", [])],
            invalid_answers=None if record["invalid_answers"] is None else _finite(record["invalid_answers"]),
            selection_metric=_label(record.get("selection_metric") or "") or None,
            training_seconds=None if record.get("training_seconds") is None else _finite(record["training_seconds"]),
            device=_read_device(path.parent),
            config=_read_config(path.parent),
            inputs=_read_inputs(path.parent),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        cause = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} does not hold a run's metrics ({cause}); evaluate that run again or move it"
        ) from error


def _read_config(folder: Path) -> Mapping[str, Any]:
    """The run's config.yaml; empty where there is none that can be read, since only details hang on it."""
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _read_inputs(folder: Path) -> Mapping[str, str]:
    """The run's inputs.json; empty where there is none that can be read."""
    try:
        return {str(key): str(digest) for key, digest in read_json(folder / INPUTS_FILE).items()}
    except (UserError, AttributeError):
        return {}


def _read_device(folder: Path) -> str | None:
    try:
        return str(read_json(folder / "environment.json")["device"])
    except (UserError, KeyError, TypeError):
        return None


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _label(YAML_WORDS[value] if value is None or isinstance(value, bool) else value)


def _is_of_method(key: str) -> bool:
    return key.startswith("method.")


def _label(value: Any) -> str:
    """A text on one line without control characters, which a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number
