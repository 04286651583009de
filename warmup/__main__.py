"""The program as an installed command (`warmup-train`) and as a module (`accelerate launch -m warmup`)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from warmup.command_line import one_line_errors, prepare, run_job
from warmup.config.groups import CONF
from warmup.sweeps.plugins import register_sweepers


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def one_job(config: DictConfig) -> None:
    """One run; the jobs of a multirun are run by its sweeper."""
    run_job(config)


def main() -> None:
    """What the command does."""
    prepare()
    register_sweepers()
    with one_line_errors():
        one_job()


if __name__ == "__main__":
    main()
