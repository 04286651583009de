"""One writer per folder: a lease whose file names the owner's host and process and is touched as long as that lives.

It needs no more of a file system than to create a file that must not be there yet, so that it holds on shared ones. An
owner that died is found out at once on its own machine, and from others when its file was not touched for `LEASE`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from warmup.display import say_error
from warmup.errors import UserError

LOCK_FILE = ".lock"
LEASE, HEARTBEAT = 60.0, 10.0  # seconds


class FolderTaken(UserError):
    """Another process writes into the folder; the line names it."""


@dataclass(frozen=True)
class Owner:
    """The process that a lock file names; `silent`: seconds since it last touched the file, by this machine's clock."""

    host: str
    process: int
    silent: float

    @property
    def alive(self) -> bool:
        """Whether it touched its file within the lease."""
        return self.silent <= LEASE

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def owner_of(folder: Path) -> Owner | None:
    """Who writes into `folder`, or wrote when it was killed; None where nobody left a lock."""
    path = folder / LOCK_FILE
    record = _lease(path).owner
    try:
        silent = time.time() - path.stat().st_mtime
    except OSError:
        return None
    return record and Owner(record.hostname.partition("?")[0], record.pid, silent)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Own `folder`, which exists, for the time of the block.

    Raises:
        FolderTaken: somebody else does. A silent owner on another machine is waited for until its lease is over.
    """
    lease = _lease(folder / LOCK_FILE)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        owner = owner_of(folder)
        if owner is None or owner.alive:
            raise _taken(folder, owner) from None
        try:
            lease.acquire(timeout=LEASE + HEARTBEAT)
        except Timeout:
            raise _taken(folder, owner_of(folder)) from None
    try:
        yield
    finally:
        lease.release()


class Watch:
    """Looks from time to time whether a folder that somebody writes into has become free."""

    def __init__(self, folder: Path) -> None:
        self._lease = _lease(folder / LOCK_FILE)  # remembers how long it has seen no heartbeat

    def is_free(self) -> bool:
        """Whether nobody owns the folder at this moment."""
        try:
            self._lease.acquire(timeout=0)
        except Timeout:
            return False
        self._lease.release()
        return True


def _lease(path: Path) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=HEARTBEAT, on_compromise=_end_at_once)


def _taken(folder: Path, owner: Owner | None) -> FolderTaken:
    return FolderTaken(
        f"{folder} is written by {owner or 'another process'}: wait for its end, or choose another folder"
    )


def _end_at_once(loss: LeaseCompromise) -> None:
    """Two writers would spoil what one of them has: who lost the lock ends, without a last word to its files."""
    what = {"marker-missing": "was deleted", "owner-changed": "was taken over by another process"}
    reason = what.get(loss.reason, f"cannot be reached ({loss.error})")
    say_error(f"error: {Path(loss.lock_file).parent} {reason} while it was written; this process ends")
    sys.stderr.flush()
    os._exit(1)
