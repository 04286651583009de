"""Lines of UTF-8 text files, plain or gzipped: what a line is, and which files are no text."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from warmup.errors import UserError

_GZIP = b"\x1f\x8b"  # no UTF-8 text begins so
_NO_TEXT = {  # how the files begin that users take for text
    _GZIP: "gzipped twice; unpack it once",
    rb"PK(\x03\x04|\x05\x06)": "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8",
    rb"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV UTF-8",
    rb"\xfd7zXZ\x00": "an xz file; unpack it, gzip is the one compression that is read",
    rb"BZh[1-9]1AY&SY": "a bzip2 file; unpack it, gzip is the one compression that is read",
    rb"\x28\xb5\x2f\xfd": "a zstandard file; unpack it, gzip is the one compression that is read",
    rb"7z\xbc\xaf": "a 7-zip archive; unpack it",
    b"|".join(
        map(re.escape, (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    ): "UTF-16 or UTF-32, as Excel's 'Unicode text' is; save it as UTF-8",
}


def text_lines(path: str, keep_ends: bool = False) -> Iterator[str]:
    r"""The lines of a UTF-8 text file, plain or gzipped, a byte order mark dropped.

    A line ends at `\n` or `\r\n` alone. Every other character that some programs break lines at (a lone carriage
    return, form feed, U+0085, U+2028, ...) is text. Behind the last line end there is no further, empty line.

    Args:
        path: the file.
        keep_ends: whether each line keeps its `\n` or `\r\n`.

    Raises:
        UserError: the file cannot be read, or is no UTF-8 text; with the line where it stops to be.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):  # bytes: these end at \n alone
            if number == 1:
                _check_start(line, path)
                line = line.removeprefix(codecs.BOM_UTF8)
                if not line:
                    return
            if not keep_ends and line.endswith(b"\n"):
                line = line[:-1].removesuffix(b"\r")
            if b"\x00" in line:
                raise UserError(f"{path}, line {number}: a NUL byte; is it UTF-16, or no text? convert the file first")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, line {number}: not UTF-8; convert the file first") from error
            yield text


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where it begins as gzip does, whatever its name.

    Raises:
        UserError: it cannot be read, is cut off, or is named `.gz` and is none.
    """
    try:
        with open(path, "rb") as file:
            if file.peek(len(_GZIP)).startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as content:
                    yield cast(BinaryIO, content)
            elif path.lower().endswith(".gz"):  # mostly a failed download; as text it would be silently wrong
                raise UserError(f"{path}: not a whole gzip file; if it is no gzip file at all, rename it without .gz")
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _check_start(start: bytes, path: str) -> None:
    for pattern, kind in _NO_TEXT.items():
        if re.match(pattern, start):
            raise UserError(f"{path}: not UTF-8 text but {kind}")
