"""The one exception that a user is meant to read, and the spelling help that goes into it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from warmup.display import error_text

LONGEST_WORD = 200  # letters of what is compared with right spellings


class UserError(Exception):
    """Something the user can mend: shown as a single line, without a traceback, exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(error_text(message))


def one_line(error: Exception) -> str:
    """What a `UserError` says; of any other error its type, its message, and how to see where it was."""
    if isinstance(error, UserError):
        return str(error)
    return error_text(f"{type(error).__name__}: {error} (HYDRA_FULL_ERROR=1 shows where)")


def first_line(error: BaseException) -> str:
    """The first line of its message; its type where it has none."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def nearest(word: object, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of `allowed`, or the empty string when none is near."""
    spelt = {right.lower(): right for right in allowed if len(right) <= LONGEST_WORD}
    close = difflib.get_close_matches(str(word)[:LONGEST_WORD].lower(), list(spelt), n=1, cutoff=0.55)
    return f"; did you mean '{spelt[close[0]]}'?" if close else ""


def wrong_value(key: str, value: object, allowed: str, suggestion: str = "") -> UserError:
    """A `UserError` that names the key, what it was, what is allowed, and the nearest right spelling."""
    return UserError(f"{key} is {error_text(repr(value))}; allowed: {allowed}{suggestion}")
