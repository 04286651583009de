"""Writing results so that a crash never leaves half a file: temporary file, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from warmup.errors import UserError, nearest, wrong_value

UNFINISHED = ".unfinished"  # what a file or folder is called, in parts, until it is whole
UMASK = os.umask(0o077)  # there is no way to ask but to set it: here, before any thread makes a file
os.umask(UMASK)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all. Makes no folder: one that was there and is gone is an error.

    Raises:
        UserError: the folder is gone or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        gone = "" if path.parent.is_dir() else ": its folder is gone"
        raise UserError(f"cannot write {path}: {error.strerror or error}{gone}") from error


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`; not what another process here is writing now."""
    for path in folder.glob(f".*{UNFINISHED}"):
        host, _, process = path.name.removesuffix(UNFINISHED).rpartition("-")
        here = host.endswith(f".{socket.gethostname()}") and process.isdecimal() and int(process) != os.getpid()
        if not (here and psutil.pid_exists(int(process))):
            path.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content; read once for each state that size and time stamp tell apart.

    Raises:
        UserError: it cannot be read.
    """
    try:
        status = os.stat(path)
        return _sha256(os.path.realpath(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


@cache  # the jobs of a multirun read the same files
def _sha256(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of `files`, which lie below `folder`."""
    named = sorted((file.relative_to(folder).as_posix(), file_digest(file)) for file in files if file.is_file())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def data_digest(path: Path) -> str | None:
    """Of a file, or of all files below a folder that are not hidden nor a cache of `datasets`; None for a name."""
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return None
    found = []
    for parent, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith((".", "cache-"))]
    return folder_digest(path, found)


def give_usual_mode(path: str | Path) -> None:
    """The permissions that this process's new files have by the user's umask, for a file that was made private."""
    os.chmod(path, 0o666 & ~UMASK)


def check_file(path: str, key: str = "") -> str:
    """`path` with `~` filled in, once it is found to be a file that may be read; `key` is what named it, if a key did.

    Raises:
        UserError: it is none; names the nearest file of that folder.
    """
    full = os.path.expanduser(path)
    folder = os.path.dirname(full) or "."
    if os.path.isfile(full) and os.access(full, os.R_OK):
        return full
    if os.path.isdir(full):
        raise wrong_value(key or "the file", path, "a file, and this is a folder")
    if os.path.exists(full):
        raise wrong_value(key or "the file", path, "a file that may be read")
    beside = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    raise wrong_value(key or "the file", path, "an existing file", nearest(full, beside))


def check_writable(path: Path) -> None:
    """Make the folder of `path` and see that files can be written there: before long work, not after it.

    Raises:
        UserError: they cannot, or `path` is a folder.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not JSON that can be read: nested too deeply") from error
