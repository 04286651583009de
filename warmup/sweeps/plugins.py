"""Makes the sweepers known to Hydra, which takes a plugin from below its own package `hydra_plugins` alone."""

from __future__ import annotations

import sys

from hydra.core.plugins import Plugins

from warmup.sweeps.grid import GridSweeper


def register_sweepers() -> None:
    """Under the names that conf/hydra/sweeper has."""
    sys.modules[GridSweeper.__module__] = sys.modules[__name__]
    Plugins.instance().register(GridSweeper)
