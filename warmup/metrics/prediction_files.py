"""Reading predictions made by anything, with the references and the sources that belong to them, for run=score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from warmup.config.schema import TaskConfig
from warmup.data.examples import Wording
from warmup.data.json_text import parse_json
from warmup.data.local import read_table, read_text, table_kind
from warmup.data.texts import listing, text_of
from warmup.errors import UserError
from warmup.metrics.metric import Texts


def read_scorable(predictions: str, references: str | None, sources: str | None) -> Texts:
    """The texts of run=score, each out of its own file or, where that is not named, out of the predictions' records.

    A file is a table (JSON lines as `predictions.jsonl` has them, JSON, CSV, TSV or Parquet) with the field
    "prediction", "reference" or "source", or plain text, one example a line; either may be gzipped. A prediction may
    be empty, as a model's answer may be.

    Raises:
        UserError: a file that cannot be read, a broken record, a missing field, files of different length; with
            file and line.
    """
    answers = _texts_of(predictions, "prediction")
    if not answers:
        raise UserError(f"predictions={predictions} has no predictions")
    if references is None and not table_kind(predictions):
        raise UserError(
            f"references is not set: {predictions} is plain text, so give the file of its references, references=FILE"
        )
    truths = _texts_of(references or predictions, "reference")
    origins = None
    if sources is not None:
        origins = _texts_of(sources, "source")
    elif table_kind(predictions) and _has_field(predictions, "source"):
        origins = _texts_of(predictions, "source")
    for path, texts in ((references, truths), (sources, origins)):
        if path and texts is not None and len(texts) != len(answers):
            raise _uneven(predictions, len(answers), path, len(texts))
    return Texts(answers, truths, origins, _options(predictions))


def _texts_of(path: str, field: str) -> list[str]:
    if not table_kind(path):
        return [line for line, _ in read_text(path)]
    return [_text(record, field, where) for record, where in read_table(path)]


def _has_field(path: str, field: str) -> bool:
    """Whether the first record has it; if it does, every other must have it too."""
    return any(field in record for record, _ in _first(path))


def _first(path: str) -> list[tuple[dict[str, Any], str]]:
    for row in read_table(path):
        return [row]
    return []


def _text(record: Mapping[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if value is None:
        present = [key for key, found in record.items() if found is not None]
        other = "" if field == "prediction" else f"; they may also come from a file of their own, {field}s=FILE"
        raise UserError(f"{where}: no field '{field}', only {listing(present)}{other}")
    return text_of(value, f"{where}: field '{field}'")


def _options(path: str) -> list[tuple[str, ...]] | None:
    if not table_kind(path) or not _has_field(path, "options"):
        return None
    return [options_of(record, where) for record, where in read_table(path)]


def options_of(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The worded options that a line of `predictions.jsonl` says its answer was to be chosen from.

    Raises:
        UserError: they are no list of texts; the line begins with `where`.
    """
    value = record.get("options")
    if isinstance(value, str):
        value = parse_json(value, f"{where}: options")  # CSV has no lists
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: options is {value!r}; allowed: a list of texts")
    return tuple(text_of(option, f"{where}: an option").strip() for option in value)


def with_options(task: TaskConfig, texts: Texts) -> Texts:
    """Where the file does not say what there was to choose from, the task's own labels, if the references are those."""
    options = Wording.from_config(task).option_targets()
    if texts.options is not None or options is None or not {text.strip() for text in texts.references} <= set(options):
        return texts
    return dataclasses.replace(texts, options=[options] * len(texts.references))


def _uneven(predictions: str, answered: int, path: str, given: int) -> UserError:
    shorter, longer = sorted([(answered, predictions), (given, path)])
    return UserError(
        f"{longer[1]}, line {shorter[0] + 1}: there is no line for it in {shorter[1]}, which has {shorter[0]} examples "
        f"to its {longer[0]}; line n of one must belong to line n of the other"
    )
