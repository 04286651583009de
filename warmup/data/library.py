"""The `datasets` library as it is used here: it says nothing of its own, and reports to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import datasets


@contextmanager
def quiet_library(bars: bool = False) -> Iterator[None]:
    """Without its messages (ours are shorter), without reporting each load to its servers; `bars`: of downloads."""
    level, shown = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not bars:
        datasets.disable_progress_bars()
    try:
        with changed(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False):
            yield
    finally:
        datasets.logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def changed(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Another value for a library's setting that has no function to set it, put back at the end."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
