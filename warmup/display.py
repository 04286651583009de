"""What a terminal and a log show: nothing that a terminal obeys, no line longer than a screen, no secret.

Every text of ours on its way to a terminal comes through here: errors, log lines and tables.
"""

from __future__ import annotations

import copy
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, and what turns the direction of writing: with both a text can pretend to be another.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
LONGEST_LINE = 1500  # characters; a screen of 24 lines of 80 has 1,920
_BEGINNING, _END = 1000, 400  # what stays of a longer line: what is wrong, and what is allowed
_SHORTEST_SECRET = 4  # characters: shorter values of the environment are parts of many words
_SECRETS: dict[str, str] = {}  # what a text of the environment is written as


def hide(value: str, written: str) -> None:
    """From now on show `written` where `value` would be; numbers, truth values and very short texts hide nothing."""
    plain = re.fullmatch(r"[-+.\d]+(e[-+]?\d+)?|true|false|null|none", value.lower())
    if len(value) >= _SHORTEST_SECRET and not plain:
        _SECRETS[value] = written


def without_secrets(text: str) -> str:
    """`text` with what stands in the configuration in place of what the environment gave."""
    for value in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(value, _SECRETS[value])
    return text


def visible(text: str, keep: str = "") -> str:
    r"""`text` with control characters and marks of direction spelt out, as `\x1b`, but for those in `keep`."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else _spelt(found[0]), text)


def _spelt(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def one_screen(line: str) -> str:
    """`line`, with its middle left out where it is longer than a screen."""
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[:_BEGINNING]} [... {len(line) - _BEGINNING - _END:,} characters ...] {line[-_END:]}"


def error_text(message: str) -> str:
    """A message as one line that may be shown."""
    return one_screen(visible(" ".join(without_secrets(message).split())))


def say(text: str, file: TextIO | None = None) -> None:
    """Print lines, on standard output where no other stream is named."""
    print(visible(without_secrets(text), keep="\n"), file=file, flush=True)


def say_error(message: str) -> None:
    """Print one line on standard error."""
    print(error_text(message), file=sys.stderr)


class LineFormatter(logging.Formatter):
    """Of every log handler (conf/config.yaml): what a message was given is data, and stays on the message's line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line; a traceback has lines of its own."""
        shown = copy.copy(record)
        if isinstance(record.args, tuple):
            shown.args = tuple(_argument(argument) for argument in record.args)
        lines = visible(without_secrets(super().format(shown)), keep="\n\t").split("\n")
        return "\n".join(map(one_screen, lines))


def _argument(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else visible(str(value))


def console(soft_wrap: bool = True, width: int | None = None) -> Console:
    """rich's, for tables; its own colours pass, those of the texts do not."""
    from rich.console import Console as RichConsole  # here, since --help need not wait for it
    from rich.console import ConsoleRenderable, RenderHook
    from rich.segment import Segment

    class Visible:
        def __init__(self, inner: ConsoleRenderable) -> None:
            self.inner = inner

        def __rich_console__(self, console: Console, options: Any) -> Iterator[Segment]:
            for segment in console.render(self.inner, options):
                text = segment.text if segment.control else visible(without_secrets(segment.text), keep="\n")
                yield Segment(text, segment.style, segment.control)

    class Cleaning(RenderHook):
        def process_renderables(self, renderables: Sequence[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [Visible(renderable) for renderable in renderables]

    made = RichConsole(soft_wrap=soft_wrap, highlight=False, width=width)
    made.push_render_hook(Cleaning())
    return made
