"""The stages of an experiment: train, evaluate, predict, score; each writes into the run's own folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from transformers import set_seed

from warmup.answering.answerer import Answer, Answerer
from warmup.answering.substitution import substitute_warmups
from warmup.config.cross_checks import warn_of_made_up_language
from warmup.config.data import needed_splits
from warmup.config.environment import described, environment_digests
from warmup.config.neutral_keys import free_overrides
from warmup.config.schema import Config, LocalData, WarmupMethod
from warmup.data.examples import Example
from warmup.data.load import Splits, load_inputs, load_splits
from warmup.display import console
from warmup.files import remove_unfinished
from warmup.metrics.answers import score_answers, score_substitution
from warmup.metrics.dev_scores import dev_metrics, dev_scores_of
from warmup.metrics.evaluation import Evaluation, check_selection_metric, compute_metrics
from warmup.metrics.metric import ScoringSettings
from warmup.metrics.prediction_files import read_scorable, with_options
from warmup.metrics.registry import larger_is_better
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.configured import AnsweringModel, trained_model, untrained_model
from warmup.models.encoding import TextReader
from warmup.models.loading import check_lengths
from warmup.models.stored_tokens import encode_pairs
from warmup.models.unwritable import count_unwritable
from warmup.reporting.tables.scores import print_scores
from warmup.runs.environment import describe_environment
from warmup.runs.file_names import RunFile
from warmup.runs.inputs import record_inputs
from warmup.runs.labels import labels_of, task_label
from warmup.runs.metrics_records import FileMetrics, RunMetrics, SegmentScores, WarmupAnalysis, scored
from warmup.runs.predictions import Predictions
from warmup.runs.records import Environment, RunConfiguration
from warmup.tracking.hub import check_access, send_model
from warmup.tracking.runs import Trackers, trackers_of_job
from warmup.training.batches import EncodedExamples
from warmup.training.fit import TrainingJob, fit, save_trained, say_what_is_trained
from warmup.training.precision import precision_on
from warmup.training.processes import is_main_process, number_of_processes, quiet_libraries
from warmup.training.results import Training
from warmup.training.streamed import EncodedStream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What one run is to do, where, and how it was asked for.

    Attributes:
        composed: what `config` was checked from, to be written down.
        overrides: of the command line, as `key=value`.
        sweep: the folder of the multirun that it is a part of; None for a run of its own.
    """

    config: Config
    composed: DictConfig
    folder: Path
    overrides: Sequence[str] = ()
    sweep: Path | None = None

    @cached_property
    def written(self) -> dict[str, Any]:
        """The configuration as files have it: what the environment gave stands there as an interpolation."""
        return described(self.composed)

    @property
    def given(self) -> dict[str, str]:
        """Digests of what the environment gave."""
        return environment_digests(self.composed)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        device = self.config.device
        return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device

    @cached_property
    def precision(self) -> str:
        """`float32` or `bfloat16`; a begun run goes on in what it began with, whatever this processor is good at."""
        asked = self.config.trainer.precision
        begun = Environment.read(self.folder).precision if asked == "auto" else None
        return begun or precision_on(self.device, asked)

    @property
    def scoring(self) -> ScoringSettings:
        """How its answers are scored."""
        return ScoringSettings(self.config.task.target_language, self.device, self.config.evaluation)


def run_stage(job: Job) -> None:
    """Do what `run=...` says.

    Raises:
        UserError: anything that the user can mend.
    """
    quiet_libraries()
    write_beginnings(job)
    STAGES[job.config.run](job)


def train_and_evaluate(job: Job) -> None:
    """run=all, and run=train, which stops after the model."""
    config = job.config
    if config.push_to_hub and is_main_process():
        check_access(config.push_to_hub)
    splits = load_splits(config.task, config.data, needed_splits(config.run))
    warn_of_made_up_language(config)
    check_selection_metric(config.task, [example.target or "" for example in splits.validation])
    set_seed(config.seed)
    model = untrained_model(config, splits.train)
    record_inputs(job.folder, config, splits.examples, job.given | splits.streamed)
    unwritable = count_unwritable(model.backbone, splits.examples)
    shown = isinstance(config.method, WarmupMethod) and config.method.sampler == "recognition"
    check_lengths(model.backbone, model.settings.limits, shown)
    dev_scores = dev_scores_of(config, model, splits.validation)
    with trackers_of_job(config, job.written, model.settings.method, job.folder, job.sweep) as trackers:
        training = train_model(job, model, encoded(job, model, splits), dev_scores, trackers)
        if config.run == "all":
            report(job, model, splits, unwritable, training, trackers)
    if config.push_to_hub and is_main_process():
        send_model(config.push_to_hub, job.folder / RunFile.MODEL)


def evaluate(job: Job) -> None:
    """run=evaluate: a saved checkpoint, or a model of the hub, on the test split, worded as it was trained."""
    config = job.config
    model = trained_model(config, job.device)
    model.settings.check_asked(CheckpointSettings.from_config(config))
    splits = load_splits(config.task, config.data, needed_splits(config.run), model.settings.wording)
    record_inputs(job.folder, config, splits.examples, job.given | splits.streamed)
    unwritable = count_unwritable(model.backbone, splits.examples)
    with trackers_of_job(config, job.written, model.settings.method, job.folder, job.sweep) as trackers:
        report(job, model, splits, unwritable, None, trackers)


def predict(job: Job) -> None:
    """run=predict: answer a file of sources that has no references."""
    config = job.config
    model = trained_model(config, job.device)
    assert config.inputs is not None
    fields = config.data.fields if isinstance(config.data, LocalData) else None
    examples = load_inputs(config.inputs, model.settings.wording, fields)
    record_inputs(job.folder, config, {"inputs": examples}, job.given)
    count_unwritable(model.backbone, {"input": examples})
    answers, seconds = answers_of(job, model, examples, "input")
    if is_main_process():
        Predictions.of(answers, examples).write(job.folder)
        log.info("%d answers in %.1f s: %s", len(answers), seconds, job.folder / RunFile.PREDICTIONS)


def score(job: Job) -> None:
    """run=score: the task's metrics of predictions made by anything."""
    if not is_main_process():
        return
    config = job.config
    assert config.predictions is not None
    texts = with_options(config.task, read_scorable(config.predictions, config.references, config.sources))
    record_inputs(job.folder, config, {}, job.given)
    evaluation = compute_metrics(config.task.metrics, texts, job.scoring)
    show_scores(job, evaluation)
    FileMetrics(
        task=task_label(config.task),
        **{key: job.written[key] for key in ("predictions", "references", "sources")},
        examples=len(texts.predictions),
        **scored(evaluation),
    ).write(job.folder)
    log.info("written: %s", job.folder / RunFile.METRICS)


STAGES: dict[str, Callable[[Job], None]] = {
    "all": train_and_evaluate,
    "train": train_and_evaluate,
    "evaluate": evaluate,
    "predict": predict,
    "score": score,
}


def write_beginnings(job: Job) -> None:
    """What a run's folder says from the start: whose it is, and with what it was made."""
    if is_main_process():
        remove_unfinished(job.folder)
        RunConfiguration.of(job.composed).write(job.folder)
        describe_environment(job.device, job.precision).write(job.folder)
        for left in (RunFile.FAILURE, RunFile.SKIPPED_STEPS):
            (job.folder / left).unlink(missing_ok=True)


def encoded(job: Job, model: AnsweringModel, splits: Splits) -> EncodedExamples:
    """What is trained on, as token ids: whole, or as a stream gives it."""
    limits, trainer = model.settings.limits, job.config.trainer
    if splits.stream is None:
        return EncodedExamples(*encode_pairs(model.backbone, splits.train, limits, "training"))
    count = trainer.max_steps * trainer.gradient_accumulation_steps * trainer.batch_size * number_of_processes()
    return EncodedStream(splits.stream, TextReader.of(model.backbone), limits, count)


def train_model(
    job: Job,
    model: AnsweringModel,
    examples: EncodedExamples,
    dev_scores: Callable[[], dict[str, float]],
    trackers: Trackers,
) -> Training:
    """Train `model` in place on `examples`, and save it."""
    config = job.config
    training_job = TrainingJob(
        backbone=model.backbone,
        method=config.method,
        trainer=replace(config.trainer, precision=job.precision),
        examples=examples,
        folder=job.folder,
        device=job.device,
        selection_metric=config.task.selection_metric,
        settings=model.settings,
        seed=config.seed,
        fresh=config.model.pretrained is None,
        larger_is_better=larger_is_better(config.task.selection_metric),
    )
    say_what_is_trained(training_job)
    training = fit(training_job, dev_scores, trackers.callbacks(model.backbone.model, training_job.examples))
    if config.model.lora.merge:
        model.backbone.merge_adapters()
    if is_main_process():
        save_trained(training_job, training)
        write_card(job, model)
    saved = job.folder / RunFile.MODEL
    log.info("trained %d steps in %.1f s; the model is in %s", training.steps, training.seconds, saved)
    trackers.model(config.logger)
    return training


def report(
    job: Job,
    model: AnsweringModel,
    splits: Splits,
    unwritable: dict[str, Any],
    training: Training | None,
    trackers: Trackers,
) -> None:
    """Answer and score the test split; write what was found, and show the table."""
    answers, seconds = answers_of(job, model, splits.test, "test")
    if not is_main_process():
        return
    predictions = Predictions.of(answers, splits.test)
    predictions.write(job.folder)
    evaluation = scores_of(job, answers, splits.test)
    show_scores(job, evaluation)
    if model.settings.method == "warmup" and job.config.evaluation.substituted_examples:
        substitution_of(job, model, splits.test).write(job.folder)
    metrics = RunMetrics(
        **labels_of(job.config, job.written, model.settings.method),
        overrides=free_overrides(job.overrides),
        selection_metric=job.config.task.selection_metric,
        examples=len(answers),
        **scored(evaluation),
        unwritable=unwritable,
        training_seconds=None if training is None else round(training.seconds, 3),
        training_steps=None if training is None else training.steps,
        skipped_steps=None if training is None else training.skipped_steps,
        decoding_seconds=round(seconds, 3),
    )
    if training is not None:
        write_card(job, model, metrics)
    metrics.write(job.folder)
    if job.sweep is None:
        from warmup.reporting.overview import write_overview

        write_overview([job.folder], job.folder)
    trackers.results(job.config.logger, metrics, predictions)


def write_card(job: Job, model: AnsweringModel, metrics: RunMetrics | None = None) -> None:
    """The card of the trained model, with its scores where there are `metrics`."""
    from warmup.reporting.card.model_card import CardFacts, write_model_card  # here, as `write_overview`

    labels = labels_of(job.config, job.written, model.settings.method)
    kind, name = model.backbone.model.config.model_type, job.written["push_to_hub"]
    facts = CardFacts(job.config, model.settings, labels, metrics, kind, name)
    write_model_card(job.folder / RunFile.MODEL, facts)


def answerer_of(job: Job, model: AnsweringModel) -> Answerer:
    """How the command has `model` answer."""
    return Answerer(model.backbone, model.settings.limits, job.config.evaluation, job.config.seed)


def answers_of(job: Job, model: AnsweringModel, examples: Sequence[Example], split: str) -> tuple[list[Answer], float]:
    """The model's answers, and the seconds they took."""
    return answerer_of(job, model).answer(examples, split, model.settings.wording)


def scores_of(job: Job, answers: Sequence[Answer], examples: Sequence[Example]) -> Evaluation:
    """The task's metrics of `answers`."""
    return score_answers(answers, examples, job.config.task.metrics, job.scoring)


def show_scores(job: Job, evaluation: Evaluation) -> None:
    """Print the scores, and keep each example's own."""
    print_scores(evaluation, console())
    SegmentScores(evaluation.segment_scores()).write(job.folder)


def substitution_of(job: Job, model: AnsweringModel, examples: Sequence[Example]) -> WarmupAnalysis:
    """What the answers owe to the warmups, on the first `evaluation.substituted_examples`."""
    config = job.config
    examples = examples[: config.evaluation.substituted_examples]
    found = substitute_warmups(answerer_of(job, model), examples)
    settings = ScoringSettings(config.task.target_language)
    tested = config.task.selection_metric
    return WarmupAnalysis(**score_substitution(found, examples, dev_metrics(config), settings, tested))
