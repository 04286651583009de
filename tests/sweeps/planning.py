"""The jobs of a multirun, planned in this process."""

from __future__ import annotations

from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode

from warmup.sweeps.grid import GridSweeper
from warmup.sweeps.jobs import SweptJob


def planned(*words: str) -> list[SweptJob]:
    """The jobs of `-m words`; Hydra is initialized."""
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", [*words, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    sweeper = GridSweeper(None, config.hydra.sweeper.params)
    sweeper.setup(hydra_context=HydraContext(loader, None), task_function=print, config=config)  # type: ignore[arg-type]
    return sweeper.plan(list(config.hydra.overrides.task))
