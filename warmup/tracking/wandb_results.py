"""Results of a run, or of a comparison of runs, as they go to wandb: scores, tables, figures, files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from warmup.reporting.tables.cells import columns
from warmup.reporting.tables.layout import Report
from warmup.runs.metrics_records import RunMetrics
from warmup.runs.predictions import Predictions
from warmup.tracking.best_effort import best_effort

MOST_ROWS = 1000  # of the table of examples; all of them are in predictions.jsonl


@best_effort("wandb", "log results")
def log_results(run: Any, metrics: RunMetrics, predictions: Predictions) -> None:
    """The test scores as summary, and a table of the first `MOST_ROWS` examples."""
    import wandb

    scores = {f"test/{name}": score.value for name, score in metrics.scores.items()}
    timings = {name: getattr(metrics, name) for name in ("training_seconds", "decoding_seconds")}
    run.summary.update({**scores, **{name: seconds for name, seconds in timings.items() if seconds}})
    columns = ["source", "warmup", "prediction", "reference"]
    rows = [[line.get(column) for column in columns] for line in islice(predictions.lines(), MOST_ROWS)]
    run.log({"examples": wandb.Table(columns=columns, data=rows)})


@best_effort("wandb", "log comparison")
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


@best_effort("wandb", "log figures")
def log_figures(run: Any, figures: Sequence[Path]) -> None:
    """Each PNG among `figures` as a picture."""
    import wandb

    pictures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures if path.suffix == ".png"}
    if pictures:
        run.log(pictures)


@best_effort("wandb", "log files")
def log_files(run: Any, kind: str, path: Path) -> None:
    """A file or folder as an artifact, read from where it lies."""
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            artifact.add_file(str(file), name, policy="immutable")
    run.log_artifact(artifact)
