"""One worded example, and the wording that makes it out of a raw record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from warmup.config.languages import language_name
from warmup.config.templates import LANGUAGE_PLACEHOLDERS, check_option_template, record_fields
from warmup.data.json_text import parse_json
from warmup.errors import UserError, nearest, wrong_value

if TYPE_CHECKING:
    from warmup.config.schema import TaskConfig

LABELS = ("A", "B", "C", "D")
_SURROGATE = re.compile("[\ud800-\udfff]")


class EmptyText(UserError):
    """A record without any text in its source or in its target."""


@dataclass(frozen=True)
class Example:
    """One example as a model reads and writes it."""

    source: str  # the raw text as the data had it; the prompt where several fields make up the source
    prompt: str  # the worded source, which the model reads
    target: str | None  # the worded target; None where the data has no references


@dataclass(frozen=True)
class Wording:
    """How a task turns a record into a prompt and a target; `dataclasses.asdict` of it is JSON."""

    task: str
    source_template: str
    target_template: str
    source_language: str | None = None
    target_language: str | None = None

    @classmethod
    def from_config(cls, task: TaskConfig) -> Wording:
        return cls(task.name, task.source_template, task.target_template, task.source_language, task.target_language)

    @cached_property
    def source_fields(self) -> list[str]:
        """The record's fields that the source is made of."""
        return record_fields("task.source_template", self.source_template)

    @cached_property
    def target_fields(self) -> list[str]:
        """The record's fields that the target is made of."""
        return record_fields("task.target_template", self.target_template)

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
        fields = self.source_fields
        prompt = self._worded(self.source_template, fields, record, where, "source")
        target = (
            self._worded(self.target_template, self.target_fields, record, where, "target") if with_target else None
        )
        return Example(self._text(record, fields[0], where) if len(fields) == 1 else prompt, prompt, target)

    def options(self) -> list[str]:
        """The worded targets A to D of a question with four options.

        Raises:
            UserError: they say more than the answer.
        """
        check_option_template(self.target_template)
        return [
            self._worded(self.target_template, ["answer"], {"answer": label}, "option", "target") for label in LABELS
        ]

    def _worded(self, template: str, fields: list[str], record: Mapping[str, Any], where: str, side: str) -> str:
        values = {name: self._text(record, name, where) for name in fields}
        # the options of a question are never empty, so they say nothing about the rest of it
        own = [name for name in fields if not self._is_choice(name)] or fields
        if own and not any(values[name].strip() for name in own):
            raise EmptyText(f"{where}: the {side} is empty: no text in {' or '.join(own)}")
        names = {key: language_name(getattr(self, key)) for key in LANGUAGE_PLACEHOLDERS}
        return template.format(**names, **{name: text.strip() for name, text in values.items()}).strip()

    def _is_choice(self, name: str) -> bool:
        return self.task == "logiqa" and name in ("options", "answer")

    def _text(self, record: Mapping[str, Any], name: str, where: str) -> str:
        value = record.get(name)
        if value is None or value != value:  # NaN is how data frames write "nothing here"
            raise missing_field(name, record, where, "data.fields")
        if self._is_choice(name):
            return _options(value, where) if name == "options" else _answer(value, where)
        return text_of(value, f"{where}: field '{name}'")


def text_of(value: Any, what: str) -> str:
    """`value` as text: a text as it is, a number or a truth value as JSON writes it.

    Args:
        value: a value of a record.
        what: what it is ("train.jsonl, line 7: field 'source'"): every error begins with it.

    Raises:
        UserError: it is nothing of these, or not to be written in UTF-8 or JSON.
    """
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise UserError(f"{what} holds half a character (a lone surrogate); UTF-8 has none")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{what} is {json.dumps(value)}, not text and no number of JSON either")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise UserError(f"{what} is {'null' if value is None else f'a {type(value).__name__}'}, not text")


def missing_field(name: str, record: Mapping[str, Any], where: str, key: str) -> UserError:
    """The error for a record without the field `name`: what it has instead, and the mapping `key` that mends it."""
    if name in record:
        return EmptyText(f"{where}: field '{name}' is {json.dumps(record[name])}, not text")
    present = [key for key, value in record.items() if value is not None]
    return UserError(
        f"{where}: no field '{name}', only {listing(present)}; "
        f"name its column: {key}='{{{name}: COLUMN}}'{nearest(name, present)}"
    )


def listing(names: Iterable[str], limit: int = 20) -> str:
    """`a, b, c` for an error message, cut after `limit` names."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest if names else "none"


def _options(value: Any, where: str) -> str:
    """`A) ... B) ... C) ... D) ...`; `value` is a list of four texts or numbers, or JSON of one (CSV has no lists)."""
    if isinstance(value, str):
        value = parse_json(value, f"{where}: options, a JSON list of {len(LABELS)} texts")
    if not isinstance(value, (list, tuple)) or len(value) != len(LABELS):
        found = f"a list of {len(value)}" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"
        raise UserError(f"{where}: options is {found}; allowed: a list of {len(LABELS)} texts")
    options = {
        label: text_of(option, f"{where}: option {label}").strip() for label, option in zip(LABELS, value, strict=True)
    }
    for label, option in options.items():
        if not option:
            raise UserError(f"{where}: option {label} is empty")
    return " ".join(f"{label}) {option}" for label, option in options.items())


def _answer(value: Any, where: str) -> str:
    """The letter of an answer given as 0 to 3, "0" to "3" or "A" to "D"."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if text in LABELS:
        return text
    if text in map(str, range(len(LABELS))):
        return LABELS[int(text)]
    raise wrong_value(f"{where}, answer", value, f"0 to {len(LABELS) - 1}, or {LABELS[0]} to {LABELS[-1]}")
