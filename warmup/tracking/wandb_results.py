"""Results of a run, or of a comparison of runs, as they go to wandb: scores, tables, figures, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warmup.config.schema import LoggerConfig
from warmup.reporting.overview import Overview
from warmup.reporting.tables.cells import columns
from warmup.reporting.tables.layout import Report
from warmup.tracking.wandb_run import Identity, best_effort, wandb_run

MOST_ROWS = 1000  # of the table of examples; all of them are in predictions.jsonl


@best_effort
def log_results(run: Any, record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    """The test scores of a `metrics.json` as summary, and a table of the first `MOST_ROWS` examples."""
    import wandb

    scores = {f"test/{name}": score["value"] for name, score in record["scores"].items()}
    timings = {name: record[name] for name in ("training_seconds", "decoding_seconds") if record.get(name)}
    run.summary.update({**scores, **timings})
    columns = ["source", "warmup", "prediction", "reference"]
    rows = [[line.get(column) for column in columns] for line in predictions[:MOST_ROWS]]
    run.log({"examples": wandb.Table(columns=columns, data=rows)})


def log_overview(logger: LoggerConfig, folders: Sequence[Path], output: Path, overview: Overview) -> None:
    """What compares several runs, as a wandb run of its own in the group of their folder; nothing without wandb."""
    identity = Identity(f"{output.name}-comparison", output.name, "comparison")
    with wandb_run(logger, output, identity, {"runs": [str(folder) for folder in folders]}) as run:
        if run:
            log_comparison(run, overview.report)
            log_figures(run, overview.figures)
            log_files(run, "report", overview.page)


@best_effort
def log_comparison(run: Any, report: Report) -> None:
    """All lines of all tables as one table, with the cells as they are shown."""
    import wandb

    lines: list[dict[str, str]] = []
    for table in report.tables:
        shown = columns(table, p_values=True)
        for number, line in enumerate(table.lines):
            cells = {name: texts[number] for name, texts in shown}
            lines.append({"table": table.title, "line": ", ".join(line.labels), **cells})
    names = list(dict.fromkeys(name for line in lines for name in line))
    run.log({"comparison": wandb.Table(columns=names, data=[[line.get(name, "") for name in names] for line in lines])})


@best_effort
def log_figures(run: Any, figures: Sequence[Path]) -> None:
    """Each PNG among `figures` as a picture."""
    import wandb

    pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures if path.suffix == ".png"}
    if pictures:
        run.log(pictures)


@best_effort
def log_files(run: Any, kind: str, path: Path) -> None:
    """A file or folder as an artifact, read from where it lies."""
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            artifact.add_file(str(file), name, policy="immutable")
    run.log_artifact(artifact)
