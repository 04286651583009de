"""The one exception that a user is meant to read, and the spelling help that goes into it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: shown as a single line, without a traceback, exit status 2."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line.encode("utf-8", "backslashreplace").decode("utf-8"))  # half a character of broken data


def one_line(error: Exception) -> str:
    """What a `UserError` says; of any other error its type, its message, and how to see where it was."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())} (HYDRA_FULL_ERROR=1 shows where)"


def nearest(word: object, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of `allowed`, or the empty string when none is near."""
    close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""


def wrong_value(key: str, value: object, allowed: str, suggestion: str = "") -> UserError:
    """A `UserError` that names the key, what it was, what is allowed, and the nearest right spelling."""
    return UserError(f"{key} is {value!r}; allowed: {allowed}{suggestion}")
