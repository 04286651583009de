"""What a run is called where it is tracked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """What a run is called where it is tracked.

    Attributes:
        group: the sweep that it belongs to; None for a run of its own.
        job_type: the method, or "comparison".
    """

    name: str
    group: str | None
    job_type: str
    tags: Sequence[str] = ()
