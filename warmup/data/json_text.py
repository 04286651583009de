"""Reading JSON as written: what Python's parser refuses, rounds or drops in silence is kept, or refused in one line."""

from __future__ import annotations

import json
import math
from typing import Any

from warmup.errors import UserError


class _RepeatedKey(Exception):
    """One object names one key twice, and only one of its values could be kept."""


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text. Numbers that Python cannot hold come as the text that they are written as.

    Args:
        text: one JSON value, of one or many lines.
        where: where it came from ("train.jsonl, line 7"): every error begins with it.

    Raises:
        UserError: it is no JSON, is nested too deeply, or an object names a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unrepeated, parse_int=_integer, parse_float=_finite_decimal)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text else ""  # inside an array of many lines
        raise UserError(f"{where}{line}: not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not a record: nested too deeply") from error
    except _RepeatedKey as error:
        raise UserError(f"{where}: the key '{error}' is there twice in one record") from error


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return record


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # longer than Python converts (4,300 digits)
        return digits


def _finite_decimal(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits  # 1e999
