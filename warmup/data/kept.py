"""What is kept of large data from one run to the next: folders that are filled once, whole, by one process.

They lie in `warmup-generations` of the `datasets` library's cache and are named by a digest of all that they depend on:
data that changed has another name. All of it can be deleted at any time; what is damaged is made anew.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import constants

from warmup.errors import UserError
from warmup.files import UNFINISHED, read_json, write_json
from warmup.manifest import damage, put_in_place

log = logging.getLogger(__name__)
KEPT_FORMAT = 1  # of what is kept; another one is made anew
VALUE_FILE = "value.json"


def digest_of(content: Any) -> str:
    """The name of what depends on `content`, JSON values, and on nothing else."""
    return hashlib.sha256(json.dumps([KEPT_FORMAT, content], sort_keys=True).encode()).hexdigest()[:32]


def kept_folder(what: str, digest: str) -> Path | None:
    """The folder of an earlier run, once it is seen to be whole; a damaged one is warned of."""
    folder = _usual_root() / digest
    wrong = damage(folder) if folder.is_dir() else None
    if wrong:
        log.warning("what was kept of %s in %s is damaged and is made anew: %s", what, folder, wrong)
    return folder if folder.is_dir() and not wrong else None


def filled_folder(what: str, digest: str, fill: Callable[[Path], None]) -> Path:
    """A folder as `fill` leaves it: of an earlier run, of one that fills it right now, or filled here.

    Args:
        what: what messages call it.
        digest: of all that it depends on.
        fill: writes into the empty folder that it is given.

    Raises:
        UserError: the disk is full, or nothing can be written anywhere; and what `fill` raises.
    """
    root = _writable_root()
    folder = root / digest
    with _one_at_a_time(root / f".{digest}.lock", what):
        if damage(folder) is None:
            return folder
        unfinished = root / f".{digest}{UNFINISHED}"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        try:
            unfinished.mkdir()
            fill(unfinished)
            put_in_place(unfinished, folder)
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            raise UserError(
                f"cannot write {what} to {root}: {os.strerror(error.errno) if error.errno else error}; "
                "HF_DATASETS_CACHE=FOLDER names a place with more room"
            ) from error
    return folder


def kept_value(what: str, digest: str, compute: Callable[[], Any]) -> Any:
    """A JSON value: of an earlier run, else what `compute` returns."""
    folder = kept_folder(what, digest)
    if folder is None:
        folder = filled_folder(what, digest, lambda empty: write_json(empty / VALUE_FILE, compute()))
    return read_json(folder / VALUE_FILE)


@contextmanager
def _one_at_a_time(lock: Path, what: str) -> Iterator[None]:
    """One process at a time, of this machine or of another that shares the folder."""
    waiting = FileLock(lock)
    try:
        waiting.acquire(timeout=0)
    except Timeout:
        log.info("another run is writing %s to %s; this one waits for it", what, lock.parent)
        waiting.acquire()
    try:
        yield
    finally:
        waiting.release()


def _usual_root() -> Path:
    cache_of_library = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    return Path(cache_of_library).expanduser() / "warmup-generations"


def _writable_root() -> Path:
    """The usual place, or one for this run alone where nothing can be written there."""
    root = _usual_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        return _temporary_root(root, error.strerror or str(error))


@cache
def _temporary_root(root: Path, reason: str) -> Path:
    try:
        folder = tempfile.TemporaryDirectory(prefix="warmup-data-")
    except OSError as error:
        raise UserError(
            f"cannot write to {root} ({reason}), nor to a temporary folder ({error.strerror or error}); "
            "HF_DATASETS_CACHE=FOLDER names another place"
        ) from error
    atexit.register(folder.cleanup)
    log.warning(
        "cannot write to %s (%s): large data is kept in %s, and only until this run ends; "
        "HF_DATASETS_CACHE=FOLDER names another place",
        root,
        reason,
        folder.name,
    )
    return Path(folder.name)
