"""What a tracker cannot do costs a line, never the run: the same numbers are in the run's folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def best_effort(tracker: str, what: str) -> Iterator[None]:
    """Around what `tracker` is asked to do: an error of its server, its background process or the network is a line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("%s: %s failed (%s); the run goes on, and its folder has everything", tracker, what, reason)
