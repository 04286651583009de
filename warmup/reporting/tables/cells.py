"""The numbers of a table as texts, the same for every reader."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from warmup.metrics.registry import larger_is_better
from warmup.reporting.tables.layout import NO_VALUE, STAR, Line, Table
from warmup.runs.comparison import Cell
from warmup.runs.metrics_records import METHOD_NAMES


def columns(table: Table, p_values: bool = False, without: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """The columns of numbers, each a name and a text per line; those that this table has nothing for are left out.

    Args:
        without: columns that `in_caption` puts in words, for readers with little room; n stays where it varies.
    """
    lines = table.lines
    shown = [
        ("SFT", [_mean(line.row.sft) for line in lines]),
        (METHOD_NAMES[table.method], [_mean(line.row.warmup) for line in lines]),
        ("difference", [_difference(line) for line in lines]),
        ("95% CI", [_interval(line) for line in lines]),
        ("p (Holm)", [_corrected_p(line) for line in lines]),
        ("paper", [signed(line.paper) for line in lines]),
        ("chance", [chance_text(line) for line in lines]),
        ("n", [_seeds(line) for line in lines]),
    ]
    optional = {"95% CI", "chance", "p (Holm)"} | (set() if table.of_paper else {"paper"})
    dropped = ({"chance"} & set(without)) | (set() if p_values else {"p (Holm)"})
    dropped |= {"n"} if "n" in without and _one_number_of_seeds(lines) else set()
    return [
        (name, cells)
        for name, cells in shown
        if name not in dropped and (name not in optional or any(cell != NO_VALUE for cell in cells))
    ]


def in_caption(table: Table, without: Collection[str]) -> list[str]:
    """What `columns(table, without=without)` has no column for, in words; of n the caption tells already."""
    if "chance" not in without:
        return []
    levels: dict[tuple[str, str], list[Line]] = {}
    for line in table.lines:
        if line.row.chance:
            levels.setdefault((line.row.task, line.labels[-1]), []).append(line)
    words: dict[str, None] = {}
    for (task, metric), lines in levels.items():
        one = len({chance_text(line) for line in lines}) == 1  # one test set: the task says which
        words |= {f"{chance_text(line)} ({task if one else line.row.label}: {metric})": None for line in lines}
    return [f"Chance levels: {', '.join(words)}."] if words else []


def _one_number_of_seeds(lines: Sequence[Line]) -> bool:
    numbers = {_seeds(line) for line in lines} - {NO_VALUE}
    return len(numbers) == 1 and numbers.pop().isdecimal()


def signed(value: float | None) -> str:
    """A difference with its sign: "+1.57", "-0.30", "0.00"."""
    shown = NO_VALUE if value is None else f"{value:+.2f}"
    return "0.00" if shown in ("+0.00", "-0.00") else shown


def _mean(cell: Cell | None) -> str:
    if cell is None:
        return NO_VALUE
    return f"{cell.mean:.2f}" if cell.deviation is None else f"{cell.mean:.2f} ± {cell.deviation:.2f}"


def _difference(line: Line) -> str:
    return signed(line.row.difference) + (STAR if line.significant else "")


def _interval(line: Line) -> str:
    test = line.row.test
    return NO_VALUE if test is None else f"[{test.low:z.2f}, {test.high:z.2f}]"


def _corrected_p(line: Line) -> str:
    if line.p_value is None:
        return NO_VALUE
    return f"{line.p_value:.3f}" if line.p_value >= 0.001 else "<0.001"


def chance_text(line: Line) -> str:
    """Of every label alike/always the most frequent one, in percent."""
    chance = line.row.chance
    return f"{chance['uniform']:.1f}/{chance['majority']:.1f}" if chance else NO_VALUE


def _seeds(line: Line) -> str:
    sft, warmup = line.row.seeds
    paired = len(line.row.paired_seeds)
    number = f"{sft}/{warmup}" if sft and warmup and sft != warmup else str(max(sft, warmup) or NO_VALUE)
    return f"{number} ({paired})" if sft and warmup and paired < min(sft, warmup) else number


def verdict(difference: str, line: Line) -> str:
    """`better` or `worse` for a difference as it is shown, by the direction of the line's score; "" for none."""
    signs = "+-" if larger_is_better(line.row.metric) else "-+"
    return dict(zip(signs, ("better", "worse"), strict=True)).get(difference[:1], "")
