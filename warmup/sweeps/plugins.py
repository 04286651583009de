"""Makes the sweepers known to Hydra, which takes a plugin from below its own package `hydra_plugins` alone."""

from __future__ import annotations

import os
import sys

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from warmup.sweeps.grid import GridSweeper
from warmup.sweeps.optuna_search import OptunaSweeper
from warmup.sweeps.task import PREEMPTION


def register_sweepers() -> None:
    """The grid as what `-m` means, in the place of Hydra's own; the search as conf/hydra/sweeper has it."""
    os.environ.setdefault(PREEMPTION, "USR1")  # which a training listens to; submitit's own choice is USR2
    sys.modules[GridSweeper.__module__] = sys.modules[__name__]
    for sweeper in (GridSweeper, OptunaSweeper):
        Plugins.instance().register(sweeper)
    grid = {"_target_": f"{GridSweeper.__module__}.GridSweeper", "max_batch_size": None, "params": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=grid, provider="warmup")
