"""Decode a split and score it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from warmup.answering.decoding import Answer, decode
from warmup.config.schema import EvaluationConfig
from warmup.config.templates import check_option_template
from warmup.data.examples import Example, Wording
from warmup.errors import wrong_value
from warmup.metrics.evaluation import Evaluation, compute_metrics
from warmup.models.encoding import encode_sources
from warmup.models.loading import Backbone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Lengths in tokens; `warmup` None stands for a model that writes no warmup."""

    source: int
    warmup: int | None
    target: int


def check_asked(asked: Limits, asked_wording: Wording, limits: Limits, wording: Wording) -> None:
    """Say in one line what a checkpoint's own limits and wording, which are used, have otherwise than the command.

    A limit of warmups is not compared where one side writes none: another method is no mistake.

    Raises:
        UserError: the checkpoint was trained on another task, whose fields and metrics are not the command's.
    """
    if wording.task != asked_wording.task:
        raise wrong_value("task.name", asked_wording.task, f"{wording.task}, which this checkpoint was trained on")
    keys = {
        "source": "task.max_source_tokens",
        "warmup": "method.max_warmup_tokens",
        "target": "task.max_target_tokens",
    }
    pairs = [(key, getattr(limits, name), getattr(asked, name)) for name, key in keys.items()]
    pairs = [pair for pair in pairs if None not in pair]
    for name in ("source_template", "target_template", "source_language", "target_language"):
        pairs.append((f"task.{name}", getattr(wording, name), getattr(asked_wording, name)))
    other = [f"{key} is {used!r}, not {given!r}" for key, used, given in pairs if used != given]
    if other:
        log.warning("the checkpoint answers as it was trained: %s", "; ".join(other))


def answer(
    backbone: Backbone,
    examples: Sequence[Example],
    limits: Limits,
    config: EvaluationConfig,
    split: str,
    seed: int,
    wording: Wording,
) -> tuple[list[Answer], float]:
    """The model's answers in the order of `examples`, shared out over all processes, and the seconds it took.

    With `config.num_warmups` above 1, a question with options is answered by scoring them, with and without warmups.

    Raises:
        UserError: its options cannot be worded without the record.
    """
    sources = encode_sources(backbone, examples, limits.source, split)
    options = None
    if wording.options is not None and config.num_warmups > 1:
        check_option_template(wording.target_template, wording.options.answer or "")
        options = options_of_all(examples)
    return answer_encoded(backbone, sources, limits, config, split, seed, options)


def answer_encoded(
    backbone: Backbone,
    sources: Sequence[list[int]],
    limits: Limits,
    config: EvaluationConfig,
    split: str,
    seed: int,
    options: Sequence[Sequence[str]] | None = None,
) -> tuple[list[Answer], float]:
    """The same for sources that are token ids already, and the worded options of each."""
    started = time.monotonic()
    cpu = next(backbone.model.parameters()).device.type == "cpu"
    with PartialState(cpu=cpu).split_between_processes(list(range(len(sources)))) as share:
        own, offered = [sources[index] for index in share], options and [options[index] for index in share]
        answers = decode(backbone, own, limits.warmup, limits.target, config, f"decoding {split}", seed, offered)
    if PartialState().num_processes > 1:
        answers = gather_object(answers)
    return answers, time.monotonic() - started


def score_answers(
    answers: Sequence[Answer],
    examples: Sequence[Example],
    metrics: Sequence[str],
    target_language: str | None,
    device: str,
    config: EvaluationConfig,
) -> Evaluation:
    """Metrics of the answers against the examples' targets."""
    return compute_metrics(
        metrics,
        [answer.prediction for answer in answers],
        [example.target or "" for example in examples],
        [example.source for example in examples],
        target_language,
        device,
        config,
        options_of_all(examples),
    )


def options_of_all(examples: Sequence[Example]) -> list[tuple[str, ...]] | None:
    """The options of each example; None for a task without, or whose targets say more than the answer."""
    options = [example.options for example in examples if example.options is not None]
    return options if len(options) == len(examples) else None


def prediction_records(answers: Sequence[Answer], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The lines of predictions.jsonl, in the input's order; `reference` is left out where there is none."""
    return [
        {
            "source": example.source,
            "warmup": answer.warmup,
            "prediction": answer.prediction,
            **({} if example.target is None else {"reference": example.target}),
            **({} if example.options is None else {"options": list(example.options)}),
        }
        for answer, example in zip(answers, examples, strict=True)
    ]
