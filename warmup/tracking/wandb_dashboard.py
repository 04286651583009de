"""run=wandb_report: a workspace in wandb that shows a project's runs, laid out by the names that `wandb_run` logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from warmup.config.schema import LoggerConfig
from warmup.errors import UserError
from warmup.files import write_text
from warmup.metrics.registry import score_kinds
from warmup.reporting.figures.drawing import FIGURE_TITLES
from warmup.reporting.figures.gauges import CONTRASTS, GAUGE_TITLES
from warmup.tracking.wandb_run import STEP, obstacle_to_upload

TITLE = "SFT against warmup"
LAYOUT_FILE = "wandb_dashboard.json"
log = logging.getLogger(__name__)


def lay_out_dashboard(logger: LoggerConfig, folder: Path) -> str:
    """Save the layout as a view of the project, write it into `folder`, and return its address.

    Raises:
        UserError: it cannot be saved now: no `wandb-workspaces`, no key, no network, or no such project. Nothing is
            written then.
    """
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise UserError(f"wandb_report: {error}; pip install wandb-workspaces, then give the same command") from error
    if obstacle := obstacle_to_upload():
        raise UserError(f"wandb_report: {obstacle}; give the same command again once that is mended")
    entity = logger.entity or _default_entity()
    dashboard = workspace(entity, logger.project)
    try:
        dashboard.save()
    except Exception as error:  # the server's refusals come in many types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"wandb_report: {entity}/{logger.project}: {reason}; log a run there first, and check logger.entity and "
            "logger.project"
        ) from error
    layout = json.loads(dashboard._to_model().model_dump_json(by_alias=True))
    write_text(folder / LAYOUT_FILE, json.dumps(layout, indent=2) + "\n")
    return str(dashboard.url)


def _default_entity() -> str:
    import wandb

    try:
        entity = wandb.Api(timeout=10).default_entity
    except Exception as error:
        raise UserError(f"wandb_report: {' '.join(str(error).split())[:200]}") from error
    if not entity:
        raise UserError("wandb_report: your key has no default entity: name one with logger.entity=NAME")
    return str(entity)


def workspace(entity: str, project: str) -> Any:
    """Sections of panels: test scores, dev curves, training, gauges, examples, figures, configuration."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def curves(section: str, names: list[str]) -> list[Any]:
        by_method = {"groupby": "JobType", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return [panels.LinePlot(title=name, x=STEP, y=[f"{section}/{name}"], **by_method) for name in names]

    bars = [
        panels.BarPlot(title=f"test {name}", metrics=[f"test/{name}"], groupby="JobType", groupby_rangefunc="stddev")
        for name in score_kinds()
    ]
    wide = panels.Layout(w=24, h=14)
    sections = {
        "Test scores": bars,
        "Dev scores": curves("dev", list(score_kinds(with_models=False))),
        "Training": curves("train", ["loss", "target_nll", "learning_rate", "grad_norm"]),
        "Warmup gauges": curves("warmup", [*GAUGE_TITLES, *CONTRASTS]),
        "Tables": [panels.WeavePanelSummaryTable(table_name=name, layout=wide) for name in ("comparison", "examples")],
        "Figures": [panels.MediaBrowser(media_keys=[f"figures/{name}" for name in FIGURE_TITLES], layout=wide)],
        "Configuration": [panels.RunComparer(diff_only="split", layout=wide)],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[ws.Section(name=name, panels=found, is_open=True) for name, found in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Metric("JobType")]),
    )
