"""run=status: a table of the runs that are done, under way, failed and waiting, renewed as long as one is under way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from warmup.display import console, visible
from warmup.runs.records import plain_line
from warmup.runs.status import RunStatus, Standing, find_statuses

RENEWED_EVERY = 2.0  # seconds
STANDING_COLOURS = {
    Standing.RUNNING: "cyan",
    Standing.WAITING: "dim",
    Standing.STOPPED: "yellow",
    Standing.FAILED: "red",
    Standing.DONE: "green",
}


def show_status(folders: Sequence[Path]) -> None:
    """Print the table; on a terminal, renew it until nothing runs or Ctrl-C."""
    screen = console(soft_wrap=False)
    statuses = find_statuses(folders)
    if not screen.is_terminal:
        console(soft_wrap=False, width=200).print(_table(statuses))
        return
    with Live(_table(statuses), console=screen, auto_refresh=False) as live:
        while any(status.standing == Standing.RUNNING for status in statuses):
            time.sleep(RENEWED_EVERY)
            statuses = find_statuses(folders)
            live.update(_table(statuses), refresh=True)


def _table(statuses: Sequence[RunStatus]) -> Table:
    counts = Counter(status.standing for status in statuses)
    title = ", ".join(f"{counts[standing]} {standing}" for standing in Standing if counts[standing]) or "no run"
    table = Table(title=title, title_justify="left")
    for name in ("run", "state", "step", "steps/s", "time left", "what"):
        table.add_column(name, overflow="fold")
    for status in statuses:
        table.add_row(
            Text(plain_line(status.folder)),
            Text(status.standing, STANDING_COLOURS[status.standing]),
            *_progress_cells(status),
            Text(visible(status.detail)),  # Live draws past the guard of the console
        )
    return table


def _progress_cells(status: RunStatus) -> tuple[str, str, str]:
    progress = status.progress
    if progress is None:
        return "", "", ""
    rate, left = progress.rate, progress.seconds_left
    return (
        f"{progress.step}/{progress.max_steps}",
        "" if rate is None else f"{rate:.3g}",
        "" if left is None else str(timedelta(seconds=round(left))),
    )
