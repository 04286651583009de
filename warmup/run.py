"""The stages of an experiment: train, evaluate, predict, score, tables; each writes into the run's own folder."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import transformers
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from transformers import set_seed

from warmup.answering.answer import Limits, answer, answer_encoded, check_asked, prediction_records, score_answers
from warmup.answering.substitution import substitute_warmups
from warmup.config.cross_checks import run_folders
from warmup.config.data import needed_splits
from warmup.config.languages import TOY, language_code
from warmup.config.neutral_keys import free_overrides
from warmup.config.schema import (
    NEURAL_METRICS,
    Config,
    HubData,
    LocalData,
    LoggerConfig,
    TaskConfig,
    WarmupMethod,
)
from warmup.data.examples import Wording
from warmup.data.load import Splits, load_inputs, load_splits
from warmup.files import write_json, write_json_lines, write_text
from warmup.metrics.evaluation import check_selection_metric, compute_metrics
from warmup.metrics.prediction_files import read_scorable
from warmup.models.encoding import encode_sources, encode_targets
from warmup.models.loading import (
    FORMAT,
    SEPARATOR,
    Backbone,
    build_fresh,
    check_lengths,
    load_pretrained,
    load_settings,
)
from warmup.models.unwritable import count_unwritable
from warmup.reporting.figures.drawing import write_figures
from warmup.reporting.overview import write_overview
from warmup.reporting.tables.scores import print_scores
from warmup.runs.environment import describe_environment
from warmup.runs.finding import find_runs
from warmup.runs.inputs import record_inputs
from warmup.tracking.wandb_dashboard import lay_out_dashboard
from warmup.tracking.wandb_run import (
    Identity,
    WandbCallback,
    log_comparison,
    log_figures,
    log_files,
    log_results,
    wandb_run,
)
from warmup.training.batches import EncodedExamples
from warmup.training.fit import Training, fit, save_trained
from warmup.training.processes import is_main_process

log = logging.getLogger(__name__)


def run(config: Config, composed: DictConfig, folder: Path, overrides: list[str]) -> None:
    """Do what `config.run` says, in `folder`; `composed` is what `config` was checked from, to be written down.

    Raises:
        UserError: anything that the user can mend.
    """
    quiet_libraries()
    if config.run == "tables":
        compare(run_folders(config.runs), folder, config.logger)
        return
    if config.run == "wandb_report":
        log.info("wandb: the dashboard is at %s", lay_out_dashboard(config.logger, folder))
        return
    if is_main_process():
        write_text(folder / "config.yaml", OmegaConf.to_yaml(composed, resolve=True))
        write_json(folder / "environment.json", describe_environment(device_of(config)))
        (folder / "error.txt").unlink(missing_ok=True)
    {"all": train_and_evaluate, "train": train_and_evaluate, "evaluate": evaluate, "predict": predict, "score": score}[
        config.run
    ](config, folder, overrides)


def quiet_libraries() -> None:
    """One voice: libraries speak only of errors, and of several processes only the first speaks."""
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="mtime may not be reliable")  # said at every checkpoint
    for library in ("huggingface_hub", "datasets", "fsspec", "urllib3", "httpx", "matplotlib", "sacrebleu"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if not is_main_process():
        logging.getLogger().setLevel(logging.ERROR)


def device_of(config: Config) -> str:
    """`cpu` or `cuda`."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device


def train_and_evaluate(config: Config, folder: Path, overrides: list[str]) -> None:
    """run=all, and run=train, which stops behind the model."""
    splits = load_splits(config.task, config.data, needed_splits(config.run))
    if (
        config.data.kind == "toy"
        and config.task.name == "translation"
        and language_code(config.task.target_language) != TOY.code
    ):
        log.warning("data=toy makes up a language of its own: these are not %s scores", config.task.target_language)
    check_selection_metric(config.task, [example.target or "" for example in splits.validation])
    set_seed(config.seed)
    backbone = fresh_or_pretrained(config, splits)
    record_inputs(folder, config, vars(splits))
    unwritable = count_unwritable(backbone, vars(splits))
    limits = limits_of(config)
    shown = isinstance(config.method, WarmupMethod) and config.method.sampler == "recognition"
    check_lengths(backbone, limits.source, limits.warmup, limits.target, shown)
    sources = encode_sources(backbone, splits.validation, limits.source, "validation")
    quick = dataclasses.replace(config.evaluation, num_warmups=1)

    def dev_scores() -> dict[str, float]:
        answers, _ = answer_encoded(backbone, sources, limits, quick, "validation", config.seed)
        evaluation = score_answers(
            answers, splits.validation, dev_metrics(config), config.task.target_language, "cpu", config.evaluation
        )
        return {name: score.value for name, score in evaluation.scores.items()}

    with wandb_of(config, limits, folder) as wandb:
        training = fit(
            backbone,
            config.method,
            config.trainer,
            EncodedExamples(
                encode_sources(backbone, splits.train, limits.source, "training"),
                encode_targets(backbone, splits.train, limits.target, "training"),
            ),
            folder,
            config.seed,
            device_of(config),
            config.task.selection_metric,
            settings_of(config),
            dev_scores,
            [WandbCallback(wandb)] if wandb else [],
            fresh=config.model.pretrained is None,
        )
        if is_main_process():
            save_trained(backbone, settings_of(config), training, folder)
        log.info("trained %d steps in %.1f s; the model is in %s", training.steps, training.seconds, folder / "model")
        if wandb and config.logger.log_model:
            log_files(wandb, "model", folder / "model")
        if config.run == "all":
            wording = Wording.from_config(config.task)
            report(config, backbone, splits, limits, wording, folder, overrides, training, wandb, unwritable)


def wandb_of(config: Config, limits: Limits, folder: Path) -> AbstractContextManager[Any]:
    """The wandb run of this run's folder; None inside it where nothing is logged to wandb."""
    labels = labels_of(config, limits)
    hydra = HydraConfig.get()
    identity = Identity(
        name=folder.name,
        group=Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None,
        job_type=labels["method"],
        tags=[*(labels[name] for name in ("task", "data", "model", "method")), f"seed {config.seed}"],
    )
    logger = config.logger if is_main_process() else LoggerConfig()
    return wandb_run(logger, folder, identity, dataclasses.asdict(config))


def dev_metrics(config: Config) -> list[str]:
    """The metrics of the dev set: those without a model of their own, which would slow every evaluation."""
    return [metric for metric in config.task.metrics if metric not in NEURAL_METRICS]


def evaluate(config: Config, folder: Path, overrides: list[str]) -> None:
    """run=evaluate: a saved checkpoint, or a model of the hub, on the test split, worded as it was trained."""
    backbone, limits, wording = trained_model(config)
    check_asked(limits_of(config), Wording.from_config(config.task), limits, wording)
    splits = load_splits(config.task, config.data, needed_splits(config.run), wording)
    record_inputs(folder, config, vars(splits))
    unwritable = count_unwritable(backbone, vars(splits))
    with wandb_of(config, limits, folder) as wandb:
        report(config, backbone, splits, limits, wording, folder, overrides, None, wandb, unwritable)


def predict(config: Config, folder: Path, overrides: list[str]) -> None:
    """run=predict: answer a file of sources that has no references."""
    backbone, limits, wording = trained_model(config)
    assert config.inputs is not None
    fields = config.data.fields if isinstance(config.data, LocalData) else None
    examples = load_inputs(config.inputs, wording, fields)
    record_inputs(folder, config, {"inputs": examples})
    count_unwritable(backbone, {"input": examples})
    answers, seconds = answer(backbone, examples, limits, config.evaluation, "input", config.seed, wording)
    if is_main_process():
        write_json_lines(folder / "predictions.jsonl", prediction_records(answers, examples))
        log.info("%d answers in %.1f s: %s", len(answers), seconds, folder / "predictions.jsonl")


def score(config: Config, folder: Path, overrides: list[str]) -> None:
    """run=score: the task's metrics of predictions made by anything."""
    if not is_main_process():
        return
    assert config.predictions is not None
    task = config.task
    texts = read_scorable(config.predictions, config.references, config.sources)
    record_inputs(folder, config, {})
    evaluation = compute_metrics(
        task.metrics,
        texts.predictions,
        texts.references,
        texts.sources,
        task.target_language,
        device_of(config),
        config.evaluation,
        texts.options or _options_of_all(task, texts.references),
    )
    print_scores(evaluation, Console(soft_wrap=True, highlight=False))
    if segments := evaluation.segment_scores():
        write_json(folder / "segment_scores.json", segments)
    files = {key: getattr(config, key) for key in ("predictions", "references", "sources")}
    stage = {"run": "score", "task": task_label(task), **files, "examples": len(texts.predictions)}
    write_json(folder / "metrics.json", {**stage, **evaluation.record()})
    log.info("written: %s", folder / "metrics.json")


def _options_of_all(task: TaskConfig, references: Sequence[str]) -> list[tuple[str, ...]] | None:
    """The task's own labels for each example; None where it has none, or where references are not among them."""
    options = Wording.from_config(task).option_targets()
    known = options is not None and {reference.strip() for reference in references} <= set(options)
    return [options] * len(references) if options is not None and known else None


def fresh_or_pretrained(config: Config, splits: Splits) -> Backbone:
    """The model to be trained, as it comes."""
    if config.model.pretrained:
        languages = (config.task.source_language, config.task.target_language)
        return load_pretrained(config.model.pretrained, config.model.revision, languages)
    texts = [text for example in splits.train for text in (example.prompt, example.target or "")]
    limits = limits_of(config)
    return build_fresh(config.model, texts, limits.source + (limits.warmup or 0) + 1 + limits.target)


def trained_model(config: Config) -> tuple[Backbone, Limits, Wording]:
    """The checkpoint with what it was trained with; where it does not say, the configuration decides."""
    path = config.checkpoint or config.model.pretrained
    assert path is not None
    settings = load_settings(path)
    languages = (config.task.source_language, config.task.target_language) if settings is None else (None, None)
    backbone = load_pretrained(path, None if config.checkpoint else config.model.revision, languages)
    backbone.model.to(device_of(config))
    if settings is None:
        log.info("%s has no warmup_config.json: it is decoded directly, without a warmup", path)
        limits, wording = dataclasses.replace(limits_of(config), warmup=None), Wording.from_config(config.task)
    else:
        limits, wording = Limits(**settings["limits"]), Wording.from_record(settings["wording"])
    check_lengths(backbone, limits.source, limits.warmup, limits.target)
    return backbone, limits, wording


def limits_of(config: Config) -> Limits:
    """The length limits of a configuration."""
    warmup = config.method.max_warmup_tokens if isinstance(config.method, WarmupMethod) else None
    return Limits(config.task.max_source_tokens, warmup, config.task.max_target_tokens)


def settings_of(config: Config) -> dict[str, Any]:
    """What warmup_config.json says: all that is needed to answer with the model."""
    return {
        "format": FORMAT,
        "method": config.method.name,
        "separator": SEPARATOR,
        "limits": dataclasses.asdict(limits_of(config)),
        "wording": dataclasses.asdict(Wording.from_config(config.task)),
    }


def report(
    config: Config,
    backbone: Backbone,
    splits: Splits,
    limits: Limits,
    wording: Wording,
    folder: Path,
    overrides: Sequence[str],
    training: Training | None,
    wandb: Any,
    unwritable: dict[str, Any],
) -> None:
    """Decode and score the test split; write predictions.jsonl and metrics.json, and show the table."""
    task = config.task
    answers, seconds = answer(backbone, splits.test, limits, config.evaluation, "test", config.seed, wording)
    if not is_main_process():
        return
    predictions = prediction_records(answers, splits.test)
    write_json_lines(folder / "predictions.jsonl", predictions)
    evaluation = score_answers(
        answers, splits.test, task.metrics, task.target_language, device_of(config), config.evaluation
    )
    print_scores(evaluation, Console(soft_wrap=True, highlight=False))
    if segments := evaluation.segment_scores():
        write_json(folder / "segment_scores.json", segments)
    if limits.warmup is not None:
        effect = substitute_warmups(
            backbone, splits.test, limits, config.evaluation, dev_metrics(config), task.target_language, config.seed
        )
        write_json(folder / "warmup_analysis.json", effect)
    record = {
        **labels_of(config, limits),
        "overrides": free_overrides(overrides),
        "selection_metric": task.selection_metric,
        "split": "test",
        "examples": len(answers),
        **evaluation.record(),
        "unwritable": unwritable,
        "training_seconds": training and round(training.seconds, 3),
        "training_steps": training and training.steps,
        "decoding_seconds": round(seconds, 3),
    }
    write_json(folder / "metrics.json", record)
    if HydraConfig.get().mode == RunMode.RUN:
        write_overview([folder], folder)
    if wandb:
        log_results(wandb, record, predictions)
        log_figures(wandb, write_figures(find_runs([folder]).runs, [], folder)[0])
        if config.logger.log_predictions:
            log_files(wandb, "predictions", folder / "predictions.jsonl")


def labels_of(config: Config, limits: Limits) -> dict[str, Any]:
    """What names a run in tables."""
    task, data = config.task, config.data
    name = data.kind
    if isinstance(data, LocalData):
        name = (
            Path(data.train or data.train_source or data.test or data.test_source or "")
            .expanduser()
            .resolve()
            .parent.name
        )
    if isinstance(data, HubData):
        name = str(data.test.path)
    return {
        "task": task_label(task),
        "data": name,
        "model": config.checkpoint or config.model.name,
        "method": "sft" if limits.warmup is None else "warmup",
        "seed": config.seed,
    }


def task_label(task: TaskConfig) -> str:
    """The task as tables name it: a translation with its languages."""
    pair = f" {language_code(task.source_language)}-{language_code(task.target_language)}"
    return task.name + (pair if task.name == "translation" else "")


def compare(folders: Sequence[Path], output: Path, logger: LoggerConfig) -> bool:
    """Show and write all there is to say about the runs in `folders` and below; true if one of them failed.

    With `logger=wandb`, what compares several runs is logged as a run of its own, in the group of its folder.
    """
    quiet_libraries()  # the process that only starts a sweep's jobs has not yet
    overview = write_overview(folders, output)
    identity = Identity(f"{output.name}-comparison", output.name, "comparison")
    with wandb_run(logger, output, identity, {"runs": [str(folder) for folder in folders]}) as wandb:
        if wandb:
            log_comparison(wandb, overview.report)
            log_figures(wandb, overview.figures)
            log_files(wandb, "report", overview.page)
    return overview.failed
