"""A folder that is whole or is none: written aside, listed with sizes and checksums, renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from warmup.errors import UserError
from warmup.files import read_json, write_json

MANIFEST_FILE = "manifest.json"


def put_in_place(unfinished: Path, folder: Path) -> None:
    """List what is in `unfinished`, have it reach the disk, and rename it to `folder`, which it replaces.

    Raises:
        OSError: one of these failed.
    """
    write_json(unfinished / MANIFEST_FILE, _contents(unfinished))
    have_on_the_disk(unfinished)
    replaced = unfinished.with_name(f"{folder.name}-replaced")
    if folder.exists():  # a damaged one
        os.replace(folder, replaced)
    os.replace(unfinished, folder)
    _sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `put_in_place` made; None where it is as it was then."""
    if not folder.is_dir():
        return "it is gone"
    if not (folder / MANIFEST_FILE).is_file():
        return f"{MANIFEST_FILE} is missing"
    try:
        listed = read_json(folder / MANIFEST_FILE)
        if not isinstance(listed, dict) or not listed:
            return f"{MANIFEST_FILE} lists no files"
        for name, described in listed.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if _described(folder / name) != described:
                return f"{name} is not as it was written"
    except UserError as error:
        return str(error)
    except (OSError, ValueError, RecursionError) as error:
        return f"it cannot be read: {error}"
    return None


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _described(path) for path in files}


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def have_on_the_disk(folder: Path) -> None:
    """Return when a crash of the machine, too, leaves all of a folder there.

    Raises:
        OSError: it cannot be written.
    """
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
