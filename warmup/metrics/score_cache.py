"""Scores of neural metrics, kept by content: the same texts under the same signature are scored once per user.

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

from warmup.errors import UserError
from warmup.files import read_json, remove_unfinished, write_json

log = logging.getLogger(__name__)


def cached_scores(
    metric: str, signature: str, texts: Sequence[Sequence[str]], compute: Callable[[], list[float]]
) -> list[float]:
    """Each example's score, from the cache where it has them, else from `compute`, and then kept.

    Args:
        metric: what the log calls it.
        signature: everything beside the texts that the scores depend on: library, model and its version, settings.
        texts: parallel lists, e.g. predictions and references; there is one score per example.
    """
    digest = hashlib.sha256(json.dumps([signature, *map(list, texts)]).encode()).hexdigest()
    path = cache_folder() / f"{digest}.json"
    kept = _kept_scores(path, len(texts[0]))
    if kept is not None:
        log.info("%s was computed before for these texts; its %d scores come from %s", metric, len(kept), path)
        return kept
    scores = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        write_json(path, {"signature": signature, "scores": scores})
    except (UserError, OSError, ValueError) as error:  # a full or read-only disk; NaN
        log.warning("%s is not kept for the next time: %s", metric, error)
    return scores


def cache_folder() -> Path:
    """Where the scores are kept, as the XDG Base Directory Specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "warmup-generations"


def _kept_scores(path: Path, n: int) -> list[float] | None:
    """The scores in a file; None unless it holds `n` numbers, whatever else it may hold."""
    if not path.is_file():
        return None
    try:
        scores = [float(score) for score in read_json(path)["scores"]]
    except (UserError, KeyError, TypeError, ValueError, RecursionError) as error:
        log.warning("the kept scores in %s cannot be read and are computed anew: %s", path, error)
        return None
    return scores if len(scores) == n and all(map(math.isfinite, scores)) else None
