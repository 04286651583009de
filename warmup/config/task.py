"""The task: what its examples look like to the model, what there is to choose from, and how answers are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omegaconf import MISSING

from warmup.config.fields import choice, number
from warmup.config.groups import task_names
from warmup.config.hub_splits import HubSplits
from warmup.config.languages import resolve_language
from warmup.config.templates import record_fields, template_fields
from warmup.errors import UserError, nearest, wrong_value

if TYPE_CHECKING:
    from warmup.config.facts import Facts

MOST_TOKENS = 1_000_000  # of a source, a warmup or a target
FEWEST_OPTIONS, MOST_OPTIONS = 2, 26


@dataclass
class OptionsConfig:
    """A question's options, of which the answer is one; a task without has no `answer` here.

    Attributes:
        field: the record's field with the options, as texts in a list or as `{label: [...], text: [...]}`; None where
            every question has the same ones, which are then the labels themselves.
        answer: the record's field with the right one: a label, or its place, counted from 0.
        labels: what prompts and answers call the options, in their order; a question must have as many. None: A, B,
            C, ..., as many as each question has options.
        template: how the prompt shows each option, one behind the other.
        answer_with: whether a target names an option by its label or by its text.
    """

    field: str | None = None
    answer: str | None = None
    labels: list[str] | None = None
    template: str = "{label}) {text} "
    answer_with: str = choice("label", "label", "text")

    def check(self, target_fields: list[str]) -> None:
        """See that the labels tell options apart, and that the target (made of `target_fields`) has the answer.

        Raises:
            UserError: naming the key.
        """
        if self.answer is None:
            for key in ("field", "labels"):
                if getattr(self, key) is not None:
                    raise UserError(f"task.options.{key} is set without task.options.answer, the field with the answer")
            return
        if self.labels is None and self.field is None:
            raise UserError(
                "task.options.field and task.options.labels are both null; allowed: the field that holds a question's "
                "options, or the labels that all questions share"
            )
        if self.labels is not None:
            allowed = f"{FEWEST_OPTIONS} to {MOST_OPTIONS} different texts, or null for A, B, C, ..."
            stripped = [label.strip() for label in self.labels]
            if not FEWEST_OPTIONS <= len(set(stripped)) == len(stripped) <= MOST_OPTIONS or "" in stripped:
                raise wrong_value("task.options.labels", list(self.labels), allowed)
            self.labels = stripped
        if sorted(template_fields(self.template)) != ["label", "text"]:
            raise wrong_value("task.options.template", self.template, "a text with {label} and {text} in it")
        if self.answer_with == "text" and self.field is None:
            raise wrong_value("task.options.answer_with", "text", "label where task.options.field is null: no texts")
        if self.answer not in target_fields:
            allowed = f"a field of task.target_template: {', '.join(target_fields)}"
            raise wrong_value("task.options.answer", self.answer, allowed, nearest(self.answer, target_fields))
        if self.field == self.answer:
            raise wrong_value("task.options.field", self.field, "another field than task.options.answer")


@dataclass
class TaskConfig:
    """What the examples look like to the model, and how its answers are scored."""

    name: str = MISSING  # as tables and checkpoints call it: the `name` of a file in conf/task
    source_template: str = MISSING
    target_template: str = MISSING
    metrics: list[str] = MISSING
    selection_metric: str = MISSING  # the dev score that picks the best checkpoint
    max_source_tokens: int = number(MISSING, 4, MOST_TOKENS)
    max_target_tokens: int = number(MISSING, 2, MOST_TOKENS)
    source_language: str | None = None  # codes or names; a translation needs both
    target_language: str | None = None
    options: OptionsConfig = field(default_factory=OptionsConfig)  # of a task that is answered by choosing one
    hub: HubSplits = field(default_factory=HubSplits)

    @property
    def has_options(self) -> bool:
        """Whether it is answered by choosing one of several options."""
        return self.options.answer is not None

    def check(self, facts: Facts, trains: bool) -> None:
        """See that name, templates, options, metrics and languages go together; `trains`: a checkpoint is picked.

        Raises:
            UserError: naming the key.
        """
        if self.name not in task_names():
            raise wrong_value("task.name", self.name, ", ".join(task_names()), nearest(self.name, task_names()))
        record_fields("task.source_template", self.source_template)
        target_fields = record_fields("task.target_template", self.target_template)
        self.options.check(target_fields)
        self._check_metrics(facts)
        if trains:
            self._check_selection(facts)
        for key in ("source_language", "target_language"):
            if text := getattr(self, key):
                resolve_language(f"task.{key}", text)
            elif self.name == "translation":
                raise wrong_value(f"task.{key}", text, "a language, as de or German")

    def _check_metrics(self, facts: Facts) -> None:
        allowed = facts.metrics_for(self.name, self.has_options)
        if not self.metrics:
            raise wrong_value("task.metrics", [], f"at least one of {', '.join(allowed)}")
        for metric in self.metrics:
            if metric not in allowed:
                listed = f"for {self.name}: {', '.join(allowed)}"
                raise wrong_value("task.metrics", metric, listed, nearest(metric, allowed))
            if self.metrics.count(metric) > 1:
                raise UserError(f"task.metrics names {metric} twice; allowed: each metric once")

    def _check_selection(self, facts: Facts) -> None:
        scores = facts.selection_scores(self.metrics)
        if not scores:
            quick = [
                metric for metric in facts.metrics_for(self.name, self.has_options) if facts.selection_scores([metric])
            ]
            allowed = f"one of {', '.join(quick)} among them, to pick the checkpoint"
            raise wrong_value("task.metrics", self.metrics, allowed)
        if self.selection_metric not in scores:
            suggestion = nearest(self.selection_metric, scores)
            raise wrong_value("task.selection_metric", self.selection_metric, ", ".join(scores), suggestion)
