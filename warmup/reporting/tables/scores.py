"""The scores of one set of answers as a terminal table: each number with the signature that reproduces it."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmup.metrics.evaluation import Evaluation
from warmup.metrics.registry import score_title


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Print each score beside its signature, and each that is missing beside the reason; text is never markup."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("signature", overflow="fold")
    for name, score in evaluation.scores.items():
        table.add_row(score_title(name), f"{score.value:.2f}", Text(score.signature))
    for name, reason in evaluation.skipped.items():
        table.add_row(score_title(name), "skipped", Text(reason))
    console.print(table)
    for note in evaluation.notes:
        console.print(Text(note))
    for name, chance in evaluation.chance.items():
        levels = f"{chance['uniform']:.2f} (every label alike), {chance['majority']:.2f} (always the most frequent)"
        console.print(f"chance, {score_title(name)}: {levels}", highlight=False)
    if evaluation.invalid_answers:
        console.print(f"{100 * evaluation.invalid_answers:.1f} % of the answers are no label", highlight=False)
