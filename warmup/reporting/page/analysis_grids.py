"""The analysis of warmups laid out: `analysis.md`, and the grids of the report's section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from warmup.metrics.registry import score_title
from warmup.metrics.significance import LEVEL, holm
from warmup.reporting.tables.layout import NO_VALUE, STAR
from warmup.reporting.tables.markdown import markdown_text
from warmup.runs.paired_examples import reversed_gains

SUBSTITUTES = {
    "own": "its own",
    "shuffled": "another input's",
    "random": "random tokens",
    "constant": "one for all",
    "source_start": "source's start",
    "empty": "empty",
}


@dataclass(frozen=True)
class Grid:
    """A small table: the first column names the row, the others are shown to the right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


def grids(analyses: Sequence[dict[str, Any]]) -> list[Grid]:
    """The analyses laid out for Markdown and the report page; empty where no run writes warmups."""
    if not analyses:
        return []
    names = [_run_label(analysis, analyses) for analysis in analyses]
    return [_content(analyses, names), _diversity(analyses, names), _gains(analyses, names), _effects(analyses, names)]


def markdown_analysis(analyses: Sequence[dict[str, Any]]) -> str:
    """The page `analysis.md`."""
    parts = ["# Warmup analysis"]
    for grid in grids(analyses):
        lines = [list(grid.header), ["---", *["---:"] * (len(grid.header) - 1)], *grid.rows]
        shown = [lines[0], lines[1], *([markdown_text(cell) for cell in row] for row in lines[2:])]
        parts += [f"## {grid.title}", "\n".join(f"| {' | '.join(line)} |" for line in shown), grid.caption]
    return "\n\n".join([*parts, *([] if analyses else ["No run with warmups has finished."])]) + "\n"


def _run_label(analysis: dict[str, Any], analyses: Sequence[dict[str, Any]]) -> str:
    label = f"{analysis['task']}, {analysis['model']}, seed {analysis['seed']}"
    alike = [
        a
        for a in analyses
        if (a["task"], a["model"], a["seed"]) == tuple(analysis[k] for k in ("task", "model", "seed"))
    ]
    return label if len(alike) == 1 else f"{label} ({analysis['run'].rstrip('/').rpartition('/')[2]})"


def _content(analyses: Sequence[dict[str, Any]], names: Sequence[str]) -> Grid:
    keys = ["in_source", "in_reference", "in_reference_only", "in_other_reference"]
    return Grid(
        "What warmups hold",
        ["run", "examples", "in the source", "in the reference", "in the reference only", "in another's reference"],
        [
            [name, str(a["examples"]), *(_percent(a[key]) for key in keys)]
            for name, a in zip(names, analyses, strict=True)
        ],
        "Share of warmup words (lower case, no punctuation) that stand in their example's source and reference, in the "
        "reference and not in the source, and in the next example's reference, which is what chance gives.",
    )


def _diversity(analyses: Sequence[dict[str, Any]], names: Sequence[str]) -> Grid:
    rows = []
    for name, a in zip(names, analyses, strict=True):
        frequent = "; ".join(
            f"{item['warmup'] or '(empty)'} ({_percent(item['share'])})" for item in a["most_frequent"][:3]
        )
        numbers = [
            _fixed(a["length_words"]),
            _fixed(a["length_characters"]),
            _percent(a["different_warmups"]),
        ]
        rows.append([name, *numbers, *(_fixed(a["distinct"][n]) for n in "123"), frequent or NO_VALUE])
    return Grid(
        "Length and variety",
        ["run", "words", "characters", "different", "distinct-1", "distinct-2", "distinct-3", "most frequent"],
        rows,
        "Mean length of a warmup; different warmups per example; distinct n-grams of words over all n-grams; the three "
        "most frequent warmups with their share of the examples (analysis.json has ten).",
    )


def _gains(analyses: Sequence[dict[str, Any]], names: Sequence[str]) -> Grid:
    rows = []
    for name, a in zip(names, analyses, strict=True):
        gain, link = a["gain"], a["overlap_and_gain"]
        mean = [NO_VALUE] * 3
        if gain:
            shares = "/".join(f"{100 * gain[key]:.0f}" for key in ("better", "equal", "worse"))
            mean = [score_title(gain["score"] or ""), f"{gain['mean']:+.2f}", shares]
        if "reason" in link:
            rows.append([name, *mean, link["reason"], NO_VALUE, str(link["examples"])])
        else:
            found = [f"{link[kind]:+.2f} ({_p_in_words(link[f'{kind}_p'])})" for kind in ("pearson", "spearman")]
            rows.append([name, *mean, *found, str(link["examples"])])
    scores = [analysis["gain"]["score"] for analysis in analyses if analysis["gain"]]
    return Grid(
        "Overlap and gain",
        ["run", "score", "mean gain", "better/equal/worse (%)", "Pearson", "Spearman", "examples"],
        rows,
        "Gain: each example's score of warmup minus SFT's, paired by source. Correlated with it: the share of the "
        f"warmup's words that the reference has. A warmup without words is left out. {reversed_gains(scores)}".rstrip(),
    )


def _effects(analyses: Sequence[dict[str, Any]], names: Sequence[str]) -> Grid:
    rows = []
    different = _different_from_own(analyses)
    for number, (name, a) in enumerate(zip(names, analyses, strict=True)):
        found = a["substitution"]
        if found is None:
            missing = [NO_VALUE] * (len(SUBSTITUTES) - 1)
            rows.append([name, "not evaluated: run=evaluate checkpoint=RUN/model measures it", NO_VALUE, *missing])
            continue
        kinds = {kind: found["warmups"].get(kind, {"scores": {}}) for kind in SUBSTITUTES}
        for score in kinds["own"]["scores"]:
            marks = [STAR if (number, kind, score) in different else "" for kind in SUBSTITUTES]
            values = [_fixed(answered["scores"].get(score)) for answered in kinds.values()]
            rows.append([name, score_title(score), *map("".join, zip(values, marks, strict=True))])
        if "target_nll" in kinds["own"]:  # runs that were made before it was measured have none
            rows.append([name, "target NLL", *(_fixed(answered.get("target_nll")) for answered in kinds.values())])
        changed = [_percent(kinds[kind].get("changed")) for kind in SUBSTITUTES if kind != "own"]
        rows.append([name, "answers changed", NO_VALUE, *changed])
    return Grid(
        "Warmups replaced",
        ["run", "score", *SUBSTITUTES.values()],
        rows,
        "Test scores when the model must go on after its own warmup, after another input's, after as many random "
        "tokens, after the most frequent of all own warmups, after the first tokens of the source, or after an empty "
        f"one; the share of answers that each changes. {STAR}: significantly different from its own at {LEVEL}, by the "
        "paired test of the score that picks the checkpoint, after Holm's correction over the tests of this table. "
        "Target NLL: nats per token of the reference. Over the first evaluation.substituted_examples, and with one "
        "warmup of each input.",
    )


def _different_from_own(analyses: Sequence[dict[str, Any]]) -> set[tuple[int, str, str]]:
    """Which analysis, kind and score differ significantly from those of the own warmups."""
    p_values = {
        (number, kind, score): p
        for number, analysis in enumerate(analyses)
        for kind, answered in ((analysis["substitution"] or {}).get("warmups", {})).items()
        for score, p in answered.get("p_values", {}).items()
    }
    return {key for key, p in zip(p_values, holm([*p_values.values()]), strict=True) if p <= LEVEL}


def _percent(share: float | None) -> str:
    return NO_VALUE if share is None else f"{100 * share:.1f}%"


def _p_in_words(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _fixed(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.2f}"
