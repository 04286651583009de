"""Values of records as text, and the errors for those that are none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from warmup.errors import UserError, nearest

_SURROGATE = re.compile("[\ud800-\udfff]")


class EmptyText(UserError):
    """A record without any text in its source or in its target."""


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
