"""Finding runs in a folder, and telling which of them are seeds of one and the same experiment.

A finished run left `metrics.json` in its folder, a failed one `error.txt`, one that is under way or was killed neither.
Two runs are comparable when their resolved configurations, and what they read, agree in everything but method, seed and
what changes no score (`warmup.config.neutral_keys`). A folder that cannot be read costs a line of its own, never the
table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, TypeVar

from warmup.config.neutral_keys import set_values, tells_runs_apart
from warmup.errors import UserError
from warmup.runs.file_names import RunFile, folders_with
from warmup.runs.metrics_records import METHOD_NAMES, RunMetrics, SegmentScores, WarmupAnalysis
from warmup.runs.records import Environment, Failure, Inputs, RunConfiguration, plain_line

Record = TypeVar("Record")
# Digests in inputs.json that stand for the names of what a run read, in as many digits as are shown.
BY_CONTENT = ("train_examples", "validation_examples", "test_examples", "model.pretrained", "checkpoint")
DIGITS = 12
TRAINING_STAGES = ("all", "evaluate")  # those that end in a metrics.json


@dataclass(frozen=True, kw_only=True)
class Run(RunMetrics):
    """A finished run: its `metrics.json` and what stands beside it.

    Attributes:
        finished: when the metrics were written, in seconds since the epoch.
        device: the name of the processor it ran on, where environment.json tells.
        precision: that its training computed in, where environment.json tells.
        config: the resolved config.yaml, nested as in YAML; empty where there is none.
        inputs: digests of what the run read, by key (`warmup.runs.inputs`); empty for a run that kept none.
    """

    folder: Path
    finished: float
    device: str | None = None
    precision: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Each value of the configuration that tells this run from others: dotted key -> value as in YAML.

        Of a run without a config.yaml only the overrides are known. What a checkpoint was trained with is not in the
        configuration that evaluates it.
        """
        known = dict(_settings_of(self.config) if self.config else self.overrides.items())
        for key, digest in self.inputs.items():  # of what the environment gave, where only its name is written
            if "${" in known.get(key, ""):
                known[key] += f" ({digest[:DIGITS]})"
        unread = {"method", "trainer"} if self.config.get("run") == "evaluate" else set()
        unread |= {"model"} if self.config.get("checkpoint") else set()
        if known.get("trainer.precision") == "auto" and self.precision:
            known["trainer.precision"] = self.precision
        return {k: v for k, v in known.items() if tells_runs_apart(k) and k.split(".")[0] not in unread}

    @property
    def model_name(self) -> str:
        """The model as tables show it: of an evaluated checkpoint the name of the run that trained it."""
        checkpoint = self.config.get("checkpoint") or self.overrides.get("checkpoint")
        return run_name(self.model) if self.model == checkpoint else self.model

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
        """The method's own settings; SFT has none that matter."""
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
        broken: the folders whose metrics cannot be read.
        notes: a line for each folder that cannot be read or is half-written.
    """

    runs: list[Run] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
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
        for run in folders_with(folder, (RunFile.METRICS, RunFile.FAILURE, RunFile.CONFIG)):
            if run.resolve() not in seen:
                seen.add(run.resolve())
                _add(found, run)
    return found


def _add(found: FoundRuns, folder: Path) -> None:
    config = _read_or_note(found, RunConfiguration.read, folder, RunConfiguration()).values
    stage = config.get("run")
    if stage == "score":  # answers that anything made: nothing says which method
        return
    if (folder / RunFile.METRICS).exists():
        try:
            found.runs.append(_read_run(found, folder, config))
        except UserError as error:
            found.notes.append(f"Left out: {error}.")
            found.broken.append(folder)
    elif (folder / RunFile.FAILURE).exists():
        found.failed.append((folder, Failure.read(folder).line))
    elif stage in TRAINING_STAGES:
        found.notes.append(
            f"Not finished: {folder} has no {RunFile.METRICS}; the command that began it goes on with it."
        )


def _read_run(found: FoundRuns, folder: Path, config: Mapping[str, Any]) -> Run:
    metrics = RunMetrics.read(folder)
    for read in (SegmentScores.read, WarmupAnalysis.read):  # read where they are used, and named here if broken
        _read_or_note(found, read, folder, None)
    environment = _read_or_note(found, Environment.read, folder, Environment())
    return Run(
        **vars(metrics),
        folder=folder,
        finished=(folder / RunFile.METRICS).stat().st_mtime,
        device=environment.device,
        precision=environment.precision,
        config=config,
        inputs=_read_or_note(found, Inputs.read, folder, Inputs()).digests,
    )


def _read_or_note(found: FoundRuns, read: Callable[[Path], Record], folder: Path, otherwise: Record) -> Record:
    """A record on which only details hang: a broken one is named, and the run stands without it."""
    try:
        return read(folder)
    except UserError as error:
        found.notes.append(f"Not read: {error}.")
        return otherwise


def run_name(checkpoint: str) -> str:
    """The name of the run that a checkpoint lies in, as `base` of `outputs/base/model`; a hub name stays.

    A job of a multirun, whose own name is a number, is named with its multirun.
    """
    parts = list(PurePath(checkpoint).parts)
    while len(parts) > 1 and re.fullmatch(r"model|checkpoints?|checkpoint-\d+", parts[-1]):
        parts.pop()
    if parts == checkpoint.split("/") and len(parts) == 2:
        return checkpoint
    return "/".join(parts[-2:]) if parts[-1].isdecimal() else parts[-1]


def newest_runs(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of runs of one experiment, method and seed only the newest, and a line for each that was repeated.

    A repeated run is no second seed: averaging it would shrink the spread.
    """
    repeats: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        repeats[sorting_key(run.experiment), run.method, sorting_key(run.variant), run.seed].append(run)
    notes = []
    for same in repeats.values():
        same.sort(key=lambda run: (run.finished, str(run.folder)))
        if len(same) > 1:
            run = same[-1]
            name = f"{run.task}, {run.model_name}, {METHOD_NAMES[run.method]}, seed {run.seed}"
            notes.append(f"Repeated: {name} was run {len(same)} times; only the newest counts, {run.folder}.")
    return [same[-1] for same in repeats.values()], notes


def group_by(runs: Sequence[Run], attribute: str) -> list[tuple[dict[str, str], list[Run]]]:
    """`runs` grouped by equal values of a property that is a dict ("experiment", "variant"), in natural order."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[sorting_key(getattr(run, attribute))].append(run)
    ordered = sorted(groups.items(), key=lambda item: [(name, natural_order(value)) for name, value in item[0]])
    return [(dict(key), sorted(same, key=lambda run: run.seed)) for key, same in ordered]


def sorting_key(setting: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """A setting as a key of a dict, what everybody knows first: tables are sorted by this."""
    first = ["task", "model", "data", "split"]
    return tuple(sorted(setting.items(), key=lambda item: (first.index(item[0]) if item[0] in first else 4, item[0])))


def natural_order(text: str) -> list[tuple[int, float, str]]:
    """A sorting key by which 4 comes before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts)]


def _settings_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values as YAML writes them."""
    for key, value in set_values(config):
        yield key, plain_line(str(value).lower() if isinstance(value, bool) else value)


def _is_of_method(key: str) -> bool:
    return key.startswith("method.")
