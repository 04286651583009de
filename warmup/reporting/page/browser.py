"""The data of the example browser, as its script (`page.js`) reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from warmup.metrics.registry import score_title
from warmup.runs.finding import METHOD_NAMES
from warmup.runs.paired_examples import WORD, PairedExamples

MOST_BROWSED = 20_000  # examples of each run: more would take a browser long to open


def browser_data(examples: Sequence[PairedExamples]) -> dict[str, Any]:
    """JSON values by name: `menu`, which names the `texts-N` and `data-N` of each run, and the one to open first.

    Runs that answered the same test set share its texts.
    """
    blocks: dict[str, Any] = {}
    names: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    entries = []
    for number, paired in enumerate(examples):
        texts = tuple(paired.sources[:MOST_BROWSED]), tuple(paired.references[:MOST_BROWSED])
        if texts not in names:
            names[texts] = f"texts-{len(names)}"
            blocks[names[texts]] = dict(zip(("sources", "references"), texts, strict=True))
        blocks[f"data-{number}"] = _answers(paired)
        score = score_title(paired.score or "")
        entries.append({"label": _entry(paired), "score": score, "texts": names[texts], "data": f"data-{number}"})
    variety = [_variety(paired) for paired in examples]
    return blocks | {"menu": {"word": WORD, "runs": entries, "first": variety.index(max(variety))}}


def _variety(paired: PairedExamples) -> tuple[float, bool]:
    """Different warmups per example, and whether SFT stands beside: the page opens where there is the most to see."""
    warmups = [warmup for warmup in paired.warmups if warmup is not None]
    return len(set(warmups)) / len(warmups) if warmups else 0.0, paired.sft is not None


def _answers(paired: PairedExamples) -> dict[str, Any]:
    shown = {
        "warmups": paired.warmups,
        "predictions": paired.predictions,
        "sft": paired.sft_predictions,
        "gains": [None if gain is None else round(gain, 4) for gain in paired.gains],
        "overlaps": [None if share is None else round(share, 4) for share in paired.overlaps],
    }
    return {name: list(column)[:MOST_BROWSED] for name, column in shown.items()}


def _entry(paired: PairedExamples) -> str:
    """A run's line in the menu."""
    run = paired.run
    beside = f", beside {paired.sft.folder.name}" if paired.sft else ""
    cut = f" (the first {MOST_BROWSED})" if len(paired.sources) > MOST_BROWSED else ""
    return f"{run.task}, {run.model_name}, {METHOD_NAMES[run.method]}, seed {run.seed}: {run.folder.name}{beside}{cut}"
