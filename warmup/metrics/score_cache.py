"""Scores and tests that take long, kept by content: the same texts under the same signature are scored once per user.

Files lie in `$XDG_CACHE_HOME/warmup-generations`, `~/.cache/warmup-generations` where that is not set. The cache only
saves time: one that cannot be read is computed anew, one that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from warmup.errors import UserError
from warmup.files import read_json, remove_unfinished, write_json

log = logging.getLogger(__name__)
Kept = TypeVar("Kept")


def cached_scores(
    metric: str, signature: str, texts: Sequence[Sequence[str]], compute: Callable[[], list[float]]
) -> list[float]:
    """Each example's score, from the cache where it has them, else from `compute`, and then kept.

    Args:
        metric: what the log calls it.
        signature: everything beside the texts that the scores depend on: library, model and its version, settings.
        texts: parallel lists, e.g. predictions and references; there is one score per example.
    """

    def read(record: Any) -> list[float]:
        kept = [float(score) for score in record["scores"]]
        if len(kept) != len(texts[0]) or not all(map(math.isfinite, kept)):
            raise ValueError(f"{len(kept)} scores, of {len(texts[0])} examples, or one that is no number")
        return kept

    def written(scores: list[float]) -> dict[str, Any]:
        return {"signature": signature, "scores": scores}

    return cached_record(metric, [signature, *map(list, texts)], compute, written, read)


def cached_record(
    what: str,
    content: Any,
    compute: Callable[[], Kept],
    written: Callable[[Kept], dict[str, Any]],
    read: Callable[[Any], Kept],
) -> Kept:
    """A record, from the cache where it has it, else from `compute`, and then kept.

    Args:
        what: what the log calls it.
        content: JSON values, all that the record depends on.
        written: the record as JSON values.
        read: the record of these again; it raises KeyError, TypeError or ValueError for whatever else a file may hold.
    """
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path = cache_folder() / f"{digest}.json"
    if path.is_file():
        try:
            kept = read(read_json(path))
            log.debug("%s: computed before for the same content; it comes from %s", what, path)
            return kept
        except (UserError, KeyError, TypeError, ValueError, RecursionError) as error:
            log.warning("what is kept of %s in %s cannot be read and is computed anew: %s", what, path, error)
    record = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        write_json(path, written(record))
    except (UserError, OSError, ValueError) as error:  # a full or read-only disk; NaN
        log.warning("%s: not kept for the next time: %s", what, error)
    return record


def cache_folder() -> Path:
    """Where the scores are kept, as the XDG Base Directory Specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "warmup-generations"
