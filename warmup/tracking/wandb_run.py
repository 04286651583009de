"""Logging to wandb, whose key stays in its own keeping; without a key or a network, logging goes on offline."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.config.schema import LoggerConfig
from warmup.metrics.registry import larger_is_better, score_kinds
from warmup.reporting.tables.formats import columns
from warmup.reporting.tables.layout import Report

PATIENCE = 10  # seconds to wait for wandb's server before a run
UPLOAD_PATIENCE = 600  # and for what is left to upload behind it
MOST_ROWS = 1000  # of the table of examples; all of them are in predictions.jsonl
LONGEST_TAG = 64  # letters; wandb refuses more
STEP = "step"  # the x-axis of everything
DATA_FOLDER = os.environ.get("WANDB_DATA_DIR")  # a user's own choice
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a run is called in wandb.

    Attributes:
        group: the sweep that it belongs to; None for a run of its own.
        job_type: the method, or "comparison".
    """

    name: str
    group: str | None
    job_type: str
    tags: Sequence[str] = ()


@contextmanager
def wandb_run(logger: LoggerConfig, folder: Path, identity: Identity, resolved: Mapping[str, Any]) -> Iterator[Any]:
    """A wandb run around what happens inside, recorded below `folder`; None where there is to be none."""
    mode = _mode(logger) if logger.name == "wandb" else "disabled"
    if mode == "disabled":
        yield None
        return
    run = _open(logger, folder, identity, resolved, mode)
    run.define_metric(STEP)
    for section in ("train", "warmup"):
        run.define_metric(f"{section}/*", step_metric=STEP)
    run.define_metric("dev/*", step_metric=STEP, summary="max")
    for kind in score_kinds().values():
        if not kind.larger_is_better:
            run.define_metric(f"dev/{kind.name}", step_metric=STEP, summary="min")
    try:
        yield run
    except BaseException:
        _close(run, 1)
        raise
    _close(run, 0)


def _mode(logger: LoggerConfig) -> str:
    """`logger.mode`; where that is `online`, wandb's own WANDB_MODE may say otherwise."""
    wanted = os.environ.get("WANDB_MODE", "")
    return wanted if logger.mode == "online" and wanted in ("offline", "disabled") else logger.mode


def _open(logger: LoggerConfig, folder: Path, identity: Identity, resolved: Mapping[str, Any], mode: str) -> Any:
    import wandb

    # where artifacts wait for their upload: beside the rest, and not in the home of who runs this
    os.environ["WANDB_DATA_DIR"] = DATA_FOLDER or str(folder / "wandb")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports wait for a network

    def start(how: str) -> Any:
        return wandb.init(
            mode=how,  # type: ignore[arg-type]  # checked with the configuration
            project=logger.project,
            entity=logger.entity,
            name=identity.name,
            group=identity.group,
            job_type=identity.job_type,
            tags=_tags([*identity.tags, *logger.tags]),
            dir=str(folder),
            config=dict(resolved),
            reinit="finish_previous",  # of a job that failed
            settings=wandb.Settings(
                console="off",
                quiet=True,
                silent=True,
                disable_git=True,  # a remote's address may hold a token; environment.json has the commit
                init_timeout=3 * PATIENCE,
                finish_timeout=UPLOAD_PATIENCE,
                finish_timeout_raises=True,
            ),
        )

    obstacle = obstacle_to_upload() if mode == "online" else None
    if mode == "online" and obstacle is None:
        try:
            return start("online")
        except wandb.Error as error:  # a key that the server refuses, a project that may not be written
            obstacle = " ".join(str(error).split())[:200]
    if obstacle:
        log.warning("wandb: %s; logging offline; later: wandb sync %s/wandb/offline-run-*", obstacle, folder)
    return start("offline")


def obstacle_to_upload() -> str | None:
    """Why nothing can be sent now; None when something can. Asked first, since wandb itself retries for minutes."""
    import wandb

    key = wandb.api.api_key
    if key is None:
        return "no key (run `wandb login`)"
    server = os.environ.get("WANDB_BASE_URL") or str(wandb.api.settings("base_url"))
    question = {"query": "query { viewer { id } }"}
    try:
        reply = requests.post(f"{server}/graphql", json=question, auth=("api", key), timeout=PATIENCE)
    except requests.RequestException:
        return "its server cannot be reached"
    if reply.status_code in (401, 403) or '"viewer":null' in reply.text.replace(" ", ""):
        return "its server refuses the key (run `wandb login --relogin`)"
    return None if reply.ok else f"its server answers with an error ({reply.status_code})"


def _goes_on(action: Callable[..., None]) -> Callable[..., None]:
    """What wandb cannot do costs a line, never the run: the same numbers are in the run's folder."""

    @functools.wraps(action)
    def attempt(*arguments: Any, **keywords: Any) -> None:
        try:
            action(*arguments, **keywords)
        except Exception as error:  # of its server, its background process, or the network
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            what = action.__name__.strip("_").replace("_", " ")
            log.warning("wandb: %s failed (%s); the run goes on, and its folder has everything", what, reason)

    return attempt


def _tags(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(word[:LONGEST_TAG] for word in words if word))


@_goes_on
def _close(run: Any, exit_code: int) -> None:
    """End the run, so that the next job of a multirun gets one of its own; name the command that uploads the rest."""
    recorded = Path(run.settings.sync_dir)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        log.warning("wandb: the upload did not end in %d s; later: wandb sync %s", UPLOAD_PATIENCE, recorded)
        return
    if run.offline:
        log.info("wandb: recorded offline; to upload it: wandb sync %s", recorded)


class WandbCallback(TrainerCallback):
    """Hands the Trainer's entries to a wandb run; one that was resumed hands the earlier ones on again.

    Not transformers' own: that one writes its 120 arguments into the run's config and obeys environment variables.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for entry in state.log_history:
            self._log(entry, entry["step"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._log(logs or {}, state.global_step)

    @_goes_on
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The dev scores of the checkpoint that is kept."""
        chosen = args.metric_for_best_model or ""
        scored = [entry for entry in state.log_history if chosen in entry]
        if scored:
            best_of = max if larger_is_better(chosen.removeprefix("eval_")) else min
            best = best_of(scored, key=lambda entry: entry[chosen])
            scores = {f"best/{name[5:]}": value for name, value in best.items() if name.startswith("eval_")}
            self.run.summary.update({**scores, "best/step": best["step"]})

    @_goes_on
    def _log(self, entry: Mapping[str, float], step: int) -> None:
        if "train_runtime" not in entry:  # the Trainer's closing entry, which has no score of its own
            values = {_name(key): value for key, value in entry.items() if key not in ("epoch", STEP)}
            self.run.log({**values, STEP: step})


def _name(key: str) -> str:
    """`eval_bleu` is `dev/bleu`, a gauge keeps its name, all else goes under `train/`."""
    if key.startswith("eval_"):
        return f"dev/{key[5:]}"
    return key if "/" in key else f"train/{key}"


@_goes_on
def log_results(run: Any, record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    """The test scores of a `metrics.json` as summary, and a table of the first `MOST_ROWS` examples."""
    import wandb

    scores = {f"test/{name}": score["value"] for name, score in record["scores"].items()}
    timings = {name: record[name] for name in ("training_seconds", "decoding_seconds") if record.get(name)}
    run.summary.update({**scores, **timings})
    columns = ["source", "warmup", "prediction", "reference"]
    rows = [[line.get(column) for column in columns] for line in predictions[:MOST_ROWS]]
    run.log({"examples": wandb.Table(columns=columns, data=rows)})


@_goes_on
def log_comparison(run: Any, report: Report) -> None:
    """All lines of all tables as one table, with the cells as they are shown."""
    import wandb

    lines: list[dict[str, str]] = []
    for table in report.tables:
        shown = columns(table, p_values=True)
        for number, line in enumerate(table.lines):
            cells = {name: texts[number] for name, texts in shown}
            lines.append({"table": table.title, "line": ", ".join(line.labels), **cells})
    names = list(dict.fromkeys(name for line in lines for name in line))
    run.log({"comparison": wandb.Table(columns=names, data=[[line.get(name, "") for name in names] for line in lines])})


@_goes_on
def log_figures(run: Any, figures: Sequence[Path]) -> None:
    """Each PNG among `figures` as a picture."""
    import wandb

    pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures if path.suffix == ".png"}
    if pictures:
        run.log(pictures)


@_goes_on
def log_files(run: Any, kind: str, path: Path) -> None:
    """A file or folder as an artifact, read from where it lies."""
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            artifact.add_file(str(file), name, policy="immutable")
    run.log_artifact(artifact)
