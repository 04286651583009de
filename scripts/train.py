"""Train, evaluate and compare: the one entrypoint. `python scripts/train.py --help` says what can be chosen."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from warmup.command_line import one_line_errors, prepare, run_job
from warmup.sweeps.plugins import register_sweepers


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> None:
    """One run; the jobs of a multirun are run by its sweeper."""
    run_job(config)


if __name__ == "__main__":
    prepare()
    register_sweepers()
    with one_line_errors():
        main()
