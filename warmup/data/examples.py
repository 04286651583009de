"""One worded example, and the wording that makes it out of a raw record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING, Any

from warmup.config.languages import language_name
from warmup.config.task import OptionsConfig
from warmup.config.templates import LANGUAGE_PLACEHOLDERS, record_fields, with_languages
from warmup.data.options import Options
from warmup.data.texts import EmptyText, missing_field, text_of

if TYPE_CHECKING:
    from warmup.config.task import TaskConfig


@dataclass(frozen=True)
class Example:
    """One example as a model reads and writes it."""

    source: str  # the raw text as the data had it; the prompt where several fields make up the source
    prompt: str  # the worded source, which the model reads
    target: str | None  # the worded target; None where the data has no references
    options: tuple[str, ...] | None = None  # the worded targets that there are to choose from, where there are
    # where in the prompt the text stands that may be cut at a length limit: that of the longest field but the options
    cuttable: tuple[int, int] | None = None


def options_of_all(examples: Sequence[Example]) -> list[tuple[str, ...]] | None:
    """The options of each example; None for a task without, or whose targets say more than the answer."""
    options = [example.options for example in examples if example.options is not None]
    return options if len(options) == len(examples) else None


@dataclass(frozen=True)
class Wording:
    """How a task turns a record into a prompt and a target; `dataclasses.asdict` of it is JSON.

    The languages are filled into the templates at once: what is written down is what the model reads.
    """

    task: str
    source_template: str
    target_template: str
    source_language: str | None = None
    target_language: str | None = None
    options: OptionsConfig | None = None

    def __post_init__(self) -> None:
        for key in ("source_template", "target_template"):
            object.__setattr__(self, key, with_languages(getattr(self, key), self._language_names))

    @cached_property
    def _language_names(self) -> dict[str, str]:
        return {key: language_name(getattr(self, key)) for key in LANGUAGE_PLACEHOLDERS}

    @cached_property
    def _source_parts(self) -> list[tuple[str, str | None]]:
        """The source template as texts, each with the name of the field behind it."""
        return [(literal, name) for literal, name, _, _ in Formatter().parse(self.source_template)]

    @classmethod
    def from_config(cls, task: TaskConfig) -> Wording:
        """The wording of a task."""
        languages = (task.source_language, task.target_language)
        return cls(
            task.name,
            task.source_template,
            task.target_template,
            *languages,
            task.options if task.options.answer else None,
        )

    @cached_property
    def source_fields(self) -> list[str]:
        """The record's fields that the source is made of."""
        return record_fields("task.source_template", self.source_template)

    @cached_property
    def target_fields(self) -> list[str]:
        """The record's fields that the target is made of."""
        return record_fields("task.target_template", self.target_template)

    @cached_property
    def options_field(self) -> str | None:
        """The record's field with the options, where they are read: the prompt shows them, or their number is free."""
        options = self.options
        shown = options is not None and (options.field in self.source_fields or options.answer_with == "text")
        if options is None or (options.labels is not None and not shown):
            return None
        return options.field

    def record_fields(self, with_target: bool = True) -> list[str]:
        """The record's fields that an example is made of, each once."""
        own = [*self.source_fields, *(self.target_fields if with_target else [])]
        return list(dict.fromkeys([*own, *([self.options_field] if self.options_field else [])]))

    def example(self, record: Mapping[str, Any], where: str, with_target: bool = True) -> Example:
        """Word one record.

        Args:
            record: the task's fields; others are ignored.
            where: where the record came from ("train.jsonl, line 7"): every error begins with it.
            with_target: whether the record has a reference.

        Raises:
            EmptyText: there is no text in the source or in the target.
            UserError: a field is missing, is no text, or is no valid option list or answer.
        """
        options = self._options(record, where)
        fields = self.record_fields(with_target)
        texts = {name: self._text(record, name, options, where) for name in fields if name in self._worded_fields}
        prompt = self._worded(self.source_template, self.source_fields, texts, where, "source")
        cuttable = self._cuttable(texts)
        target = self._worded(self.target_template, self.target_fields, texts, where, "target") if with_target else None
        first = self.source_fields[0]
        source = texts[first] if len(self.source_fields) == 1 else prompt
        answers = None if options is None else self.option_targets(self._answers(options))
        return Example(source, prompt, target, answers, cuttable)

    def _answers(self, options: Options) -> tuple[str, ...]:
        """What a target calls each option."""
        return options.texts if self.options is not None and self.options.answer_with == "text" else options.labels

    def option_targets(self, labels: tuple[str, ...] | None = None) -> tuple[str, ...] | None:
        """The worded target of each label, by default the task's own; None where the target says more than the answer.

        None too for a task without options, and for one whose questions each have a number of their own.
        """
        fixed = self.options is not None and self.options.labels and self.options.answer_with == "label"
        labels = labels or (tuple(self.options.labels or ()) if self.options and fixed else None)
        if self.options is None or labels is None or self.target_fields != [self.options.answer]:
            return None
        worded = (
            self._worded(self.target_template, self.target_fields, {self.target_fields[0]: label}, "option", "target")
            for label in labels
        )
        return tuple(worded)

    @cached_property
    def _worded_fields(self) -> set[str]:
        return {*self.source_fields, *self.target_fields}

    def _options(self, record: Mapping[str, Any], where: str) -> Options | None:
        if self.options is None:
            return None
        if self.options_field is None:
            return Options(tuple(self.options.labels or ()))
        return Options.read(
            _field_value(record, self.options_field, where), self.options, f"{where}: {self.options_field}"
        )

    def _worded(self, template: str, fields: list[str], texts: Mapping[str, str], where: str, side: str) -> str:
        # the options of a question are never empty, so they say nothing about the rest of it
        own = [name for name in fields if not self._is_choice(name)] or fields
        if own and not any(texts[name].strip() for name in own):
            raise EmptyText(f"{where}: the {side} is empty: no text in {' or '.join(own)}")
        return template.format(**{name: texts[name].strip() for name in fields}).strip()

    def _cuttable(self, texts: Mapping[str, str]) -> tuple[int, int] | None:
        """Where the longest field but the options stands in the prompt; None where there is no other."""
        fields = [name for name in self.source_fields if not self._is_choice(name)]
        if not fields:
            return None
        longest = max(fields, key=lambda name: len(texts[name].strip()))
        values = self._language_names | {name: texts[name].strip() for name in self.source_fields}
        before = ""
        for literal, name in self._source_parts:
            before += literal
            if name == longest:
                break
            before += values[name] if name else ""
        start = len(before.lstrip())  # as the prompt is stripped
        return start, start + len(values[longest])

    def _is_choice(self, name: str) -> bool:
        return self.options is not None and name in (self.options.field, self.options.answer)

    def _text(self, record: Mapping[str, Any], name: str, options: Options | None, where: str) -> str:
        value = _field_value(record, name, where)
        if options is None or not self._is_choice(name):
            return text_of(value, f"{where}: field '{name}'")
        assert self.options is not None
        if name == self.options_field:
            return options.worded(self.options.template)
        label = options.label_of(value, f"{where}, {name}")
        return self._answers(options)[options.labels.index(label)]


def _field_value(record: Mapping[str, Any], name: str, where: str) -> Any:
    value = record.get(name)
    if value is None or value != value:  # NaN is how data frames write "nothing here"
        raise missing_field(name, record, where, "data.fields")
    return value
