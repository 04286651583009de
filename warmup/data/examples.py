"""From records to worded examples: which fields a task reads, and what the model sees and writes."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warmup.config.schema import TOY_LANGUAGE, TaskConfig
from warmup.errors import UserError, nearest

LABELS = ("A", "B", "C", "D")
LANGUAGE_FIELDS = ("source_language", "target_language")
LANGUAGE_NAMES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
    TOY_LANGUAGE: "Toyish",
}


@dataclass(frozen=True)
class Example:
    """One input and, where it is known, its answer."""

    source: str  # the text as the data had it; the prompt, where a task words several fields
    prompt: str  # the worded source that the model reads
    target: str | None  # the worded target; None without references


def template_fields(template: str) -> list[str]:
    """The `{field}` placeholders of a template, in order, each once.

    Raises:
        UserError: the template holds anything but plain placeholders.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"the template {template!r} cannot be read ({error}): write plain {{field}} placeholders") from error
    names = []
    for _, name, format_spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or format_spec or conversion:
            raise UserError(f"the template {template!r} holds {{{name}}}: allowed are plain names, as {{source}}")
        names.append(name)
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Wording:
    """How a task's records become prompts and targets; saved with the model in warmup_config.json."""

    task: str
    source_template: str
    target_template: str
    source_language: str | None = None
    target_language: str | None = None

    @classmethod
    def from_config(cls, task: TaskConfig) -> Wording:
        """The wording that the configuration gives.

        Raises:
            UserError: a template that cannot be read, or that names no field.
        """
        wording = cls(task.name, task.source_template, task.target_template, task.source_language, task.target_language)
        for key, fields in (("source", wording.source_fields), ("target", wording.target_fields)):
            if not fields:
                raise UserError(f"task.{key}_template names no field: write at least one, as {{{key}}}")
        return wording

    @property
    def source_fields(self) -> list[str]:
        """The record's fields that the prompt is made of."""
        return [name for name in template_fields(self.source_template) if name not in LANGUAGE_FIELDS]

    @property
    def target_fields(self) -> list[str]:
        """The record's fields that the target is made of."""
        return [name for name in template_fields(self.target_template) if name not in LANGUAGE_FIELDS]

    def example(self, record: Mapping[str, Any], where: str, with_target: bool = True) -> Example:
        """Word one record; `where` ("file.jsonl, line 7") begins every complaint about it.

        Raises:
            UserError: a field is missing, no text, empty, or an answer that is no label.
        """
        values = {name: self._text(record, name, where) for name in self.source_fields}
        prompt = self._fill(self.source_template, values)
        source = next(iter(values.values())) if len(values) == 1 else prompt
        if not with_target:
            return Example(source, prompt, None)
        target = self._fill(self.target_template, {name: self._text(record, name, where) for name in self.target_fields})
        return Example(source, prompt, target)

    def _fill(self, template: str, values: Mapping[str, str]) -> str:
        languages = {name: getattr(self, name) or "" for name in LANGUAGE_FIELDS}
        named = {name: LANGUAGE_NAMES.get(code, code) for name, code in languages.items()}
        return template.format(**{**named, **values})

    def _text(self, record: Mapping[str, Any], name: str, where: str) -> str:
        if name not in record:
            fields = [str(field) for field in record]
            raise UserError(
                f"{where}: there is no field {name!r}; the record has {', '.join(fields) or 'none'}"
                f"{nearest(name, fields)} (data.fields='{{{name}: COLUMN}}' names another column)"
            )
        value = record[name]
        if self.task == "logiqa" and name == "options":
            return _options(value, where)
        if self.task == "logiqa" and name == "answer":
            return _answer(value, where)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise UserError(f"{where}: {name} is {_short(value)}; allowed: text")
        text = str(value).strip()
        if not text:
            raise UserError(f"{where}: {name} is empty; give it a text or leave the record out")
        return text


def _options(value: Any, where: str) -> str:
    """`A) ... B) ... C) ... D) ...`; CSV files hold the list as a JSON string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    good = isinstance(value, (list, tuple)) and all(isinstance(option, str) and option.strip() for option in value)
    if not good or len(value) != len(LABELS):
        raise UserError(f"{where}: options is {_short(value)}; allowed: a list of four texts")
    return " ".join(f"{label}) {option.strip()}" for label, option in zip(LABELS, value, strict=True))


def _answer(value: Any, where: str) -> str:
    if isinstance(value, float) and value.is_integer():  # a CSV column with gaps is read as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"{where}: answer is {_short(value)}; allowed: 0 to 3")
    text = str(value).strip()
    if text in LABELS:
        return text
    if text.isdecimal() and int(text) < len(LABELS):
        return LABELS[int(text)]
    raise UserError(f"{where}: answer is {text or 'empty'}; allowed: 0 to 3 (or A to D)")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
