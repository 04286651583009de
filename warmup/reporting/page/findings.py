"""What the comparisons show, in a sentence per task: the first thing that a reader of the page wants to know."""

from __future__ import annotations

from collections.abc import Sequence

from warmup.metrics.registry import larger_is_better, score_order, score_title
from warmup.reporting.tables.cells import signed
from warmup.reporting.tables.layout import Line, Report
from warmup.runs.metrics_records import METHOD_NAMES

WAYS = {
    "better": "significantly better",
    "worse": "significantly worse",
    "even": "no further off than chance",
    "untested": "not tested",
}


def findings(report: Report) -> list[str]:
    """A sentence for each task and method, by the score that picks the checkpoint (else the first)."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for table in report.tables:
        for line in table.lines:
            if line.row.runs:  # a row of the paper's that nobody ran, and an average, have none
                lines.setdefault((line.row.task, line.row.method), []).append(line)
    return [_finding(task, method, _of_one_score(found)) for (task, method), found in lines.items()]


def _of_one_score(lines: Sequence[Line]) -> list[Line]:
    metrics = sorted({line.row.metric for line in lines}, key=score_order)
    stated = [run.selection_metric for line in lines for run in line.row.runs if run.selection_metric]
    chosen = next(metric for metric in [*stated, *metrics] if metric in metrics)
    return [line for line in lines if line.row.metric == chosen]


def _finding(task: str, method: str, lines: Sequence[Line]) -> str:
    name, compared = METHOD_NAMES[method], [line for line in lines if line.row.difference is not None]
    if not compared:
        run = [word for word, cell in (("SFT", "sft"), (name, "warmup")) if any(getattr(x.row, cell) for x in lines)]
        why = f"{' and '.join(run)} were run on different tests" if len(run) > 1 else f"only {run[0]} was run"
        return f"{task}: nothing to compare, {why}."
    metric = score_title(compared[0].row.metric)
    if len(compared) == 1:
        return f"{task}: {_one(name, metric, compared[0])}."
    ways = [_way(line) for line in compared]
    counts = [f"{WAYS[way]} in {ways.count(way)}" for way in WAYS if way in ways]
    counts[0] += f" of {len(compared)} comparisons"
    ends = dict.fromkeys(signed(bound(line.row.difference or 0.0 for line in compared)) for bound in (min, max))
    return f"{task}: against SFT, {name}'s {metric} is {', '.join(counts)}; differences {' to '.join(ends)}."


def _one(name: str, metric: str, line: Line) -> str:
    row = line.row
    assert row.sft and row.warmup and row.difference is not None
    scores = f"{name} has {row.warmup.mean:.2f} {metric}, SFT {row.sft.mean:.2f}"
    interval = f", 95% CI [{row.test.low:z.2f}, {row.test.high:z.2f}]" if row.test else ""
    return f"{scores}: {signed(row.difference)}{interval}, {WAYS[_way(line)]}"


def _way(line: Line) -> str:
    if line.p_value is None:
        return "untested"
    if not line.significant:
        return "even"
    gained = (line.row.difference or 0.0) > 0
    return "better" if gained == larger_is_better(line.row.metric) else "worse"
