"""Configuration values whose range or choices stand beside their types, and the check of a value against them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from warmup.errors import UserError, nearest, wrong_value


def number(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A numeric value in the closed range [low, high]; None leaves a side open."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def choice(default: Any, *allowed: str) -> Any:
    """A value out of a fixed list."""
    return dataclasses.field(default=default, metadata={"choices": allowed})


def mapping() -> Any:
    """A mapping of names, or null. Not a typed dict: OmegaConf would let nobody add a name to an empty one."""
    return dataclasses.field(default=None, metadata={"mapping": True})


def folders(default: str) -> Any:
    """A folder, a list of folders, or globs. Not typed here: OmegaConf has no union of text and list."""
    return dataclasses.field(default=default, metadata={"folders": True})


def fields_of(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every key of a typed configuration that holds a value, with that value and its field.

    Raises:
        UserError: a key that the schema does not have.
    """
    known = [field.name for field in dataclasses.fields(part)]
    for name in vars(part).keys() - set(known):  # `+key=value` gets past Hydra's own check
        raise UserError(f"there is no key {prefix + name!r}; allowed: {', '.join(known)}{nearest(name, known)}")
    for own in dataclasses.fields(part):
        value = getattr(part, own.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{own.name}.")
        else:
            yield f"{prefix}{own.name}", value, own


def check_value(key: str, value: Any, field: dataclasses.Field[Any]) -> None:
    """Hold `value` against the range or the choices in its field's metadata.

    Raises:
        UserError: it is outside.
    """
    if field.metadata.get("folders"):
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise wrong_value(key, value, "a folder, a list of folders as [a,b], or a glob as 'outputs/2026-*'")
        return
    if value is None:
        return
    if value == "":
        raise wrong_value(key, value, "a text that is not empty")
    if field.metadata.get("mapping"):
        if not isinstance(value, dict) or not all(isinstance(word, str) for pair in value.items() for word in pair):
            raise wrong_value(key, value, "a mapping of names, as '{source: question, target: reply}'")
        return
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise wrong_value(key, value, ", ".join(choices), nearest(value, choices))
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise wrong_value(key, value, range_in_words(field))


def range_in_words(field: dataclasses.Field[Any]) -> str:
    """`1 to 256`, `at least 1`, or the choices; the empty string when anything goes."""
    if choices := field.metadata.get("choices"):
        return ", ".join(choices)
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is None and high is None:
        return ""
    return f"at least {low}" if high is None else f"{low} to {high}"
