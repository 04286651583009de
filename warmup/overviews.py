"""The stages about runs that are there already: tables, status and wandb's dashboard. None needs torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from warmup.config.cross_checks import run_folders
from warmup.config.schema import Config, LoggerConfig
from warmup.display import without_secrets
from warmup.tracking.identity import Identity
from warmup.tracking.wandb_results import log_comparison, log_figures, log_files
from warmup.tracking.wandb_run import wandb_run
from warmup.training.processes import quiet_libraries

log = logging.getLogger(__name__)


def compare(folders: Sequence[Path], output: Path, logger: LoggerConfig) -> bool:
    """Show and write all there is to say about the runs in `folders` and below; true if one of them failed.

    With `logger=wandb`, what compares several runs is logged as a run of its own, in the group of its folder.

    Raises:
        UserError: the metrics of one cannot be read; all else is shown and written.
    """
    from warmup.reporting.overview import write_overview  # here: matplotlib takes a second to import

    quiet_libraries()  # the process that only starts a sweep's jobs has not yet
    overview = write_overview(folders, output)
    identity = Identity(f"{output.name}-comparison", output.name, "comparison")
    with wandb_run(logger, output, identity, {"runs": [without_secrets(str(folder)) for folder in folders]}) as wandb:
        if wandb:
            log_comparison(wandb, overview.report)
            log_figures(wandb, overview.figures)
            log_files(wandb, "report", overview.page)
    overview.check_read()
    return overview.failed


def show_statuses(config: Config, _folder: Path) -> None:
    """run=status: how far the runs in some folders are."""
    from warmup.reporting.status import show_status

    show_status(run_folders(config.runs))


def report_to_wandb(config: Config, folder: Path) -> None:
    """run=wandb_report: the dashboard of a project."""
    from warmup.tracking.wandb_dashboard import lay_out_dashboard

    log.info("wandb: the dashboard is at %s", lay_out_dashboard(config.logger, folder))


# By the name of the stage, from the configuration and the folder of this run.
OVERVIEWS: dict[str, Callable[[Config, Path], object]] = {
    "tables": lambda config, folder: compare(run_folders(config.runs), folder, config.logger),
    "status": show_statuses,
    "wandb_report": report_to_wandb,
}
