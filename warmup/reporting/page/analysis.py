"""What warmups are made of, and what they do: `analysis.json`, `analysis.md`, and a section of the report.

The paper finds that warmups work at the lexical level: they hold words of the answer. So words are counted
(`examples.words`: lower case, without punctuation), against the source, the reference and another example's reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from warmup.errors import UserError
from warmup.files import read_json
from warmup.metrics.registry import score_title
from warmup.reporting.page.paired_examples import PairedExamples, reversed_gains, words
from warmup.reporting.tables.formats import markdown_text
from warmup.runs.finding import Run

MOST_FREQUENT = 10
EMPTY = "—"
SUBSTITUTES = {"own": "its own", "shuffled": "another input's", "empty": "empty"}


def analyse(examples: PairedExamples) -> dict[str, Any]:
    """Statistics of one warmup run's warmups; shares are 0 to 1, scores in percent, what cannot be had is None.

    `in_source`, `in_reference`: share of all warmup words that their example's text has; `in_reference_only`: in the
    reference and not in the source; `in_other_reference`: in the next example's reference, which is what chance gives.
    `distinct`: different n-grams of words over all n-grams (Li et al. 2016), n = 1 to 3, over the whole test set.
    """
    warmups = [warmup or "" for warmup in examples.warmups]
    tokens = [words(warmup) for warmup in warmups]
    sources = [set(words(text)) for text in examples.sources]
    references = [set(words(text)) for text in examples.references]
    others = [*references[1:], *references[:1]]
    only = [reference - source for reference, source in zip(references, sources, strict=True)]
    counts = Counter(warmups)
    return {
        "run": str(examples.run.folder),
        "sft": examples.sft and str(examples.sft.folder),
        "task": examples.run.task,
        "model": examples.run.model,
        "seed": examples.run.seed,
        "examples": len(warmups),
        "length_words": fmean(map(len, tokens)) if tokens else None,
        "length_characters": fmean(map(len, warmups)) if warmups else None,
        "without_words": fmean(not row for row in tokens) if tokens else None,
        "in_source": _share_found(tokens, sources),
        "in_reference": _share_found(tokens, references),
        "in_reference_only": _share_found(tokens, only),
        "in_other_reference": _share_found(tokens, others) if len(tokens) > 1 else None,
        "distinct": {str(n): distinct(tokens, n) for n in (1, 2, 3)},
        "different_warmups": len(counts) / len(warmups) if warmups else None,
        "most_frequent": [
            {"warmup": warmup, "count": count, "share": count / len(warmups)}
            for warmup, count in counts.most_common(MOST_FREQUENT)
        ],
        "gain": _gain(examples),
        "overlap_and_gain": correlation(examples.overlaps(), examples.gains),
        "substitution": _substitution(examples.run),
    }


def _share_found(tokens: Sequence[Sequence[str]], texts: Sequence[set[str]]) -> float | None:
    found = [token in text for row, text in zip(tokens, texts, strict=True) for token in row]
    return fmean(found) if found else None


def distinct(tokens: Sequence[Sequence[str]], n: int) -> float | None:
    """Different n-grams over all n-grams of all rows; None where no row is that long."""
    grams = [tuple(row[start : start + n]) for row in tokens for start in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def _gain(examples: PairedExamples) -> dict[str, Any] | None:
    gains = [gain for gain in examples.gains if gain is not None]
    if not gains:
        return None
    shares = (fmean(gain > 0 for gain in gains), fmean(gain == 0 for gain in gains), fmean(gain < 0 for gain in gains))
    return {
        "score": examples.score,
        "examples": len(gains),
        "mean": fmean(gains),
        **dict(zip(("better", "equal", "worse"), shares, strict=True)),
    }


def correlation(overlaps: Sequence[float | None], gains: Sequence[float | None]) -> dict[str, Any]:
    """Pearson's and Spearman's coefficient with two-sided p values, over examples that have both; or why not.

    Overlap is the share of the warmup's words that the reference has.
    """
    pairs = [(o, g) for o, g in zip(overlaps, gains, strict=True) if o is not None and g is not None]
    if not any(gain is not None for gain in gains):
        return {"examples": 0, "reason": "no SFT run answered the same examples"}
    if len(pairs) < 3:
        return {"examples": len(pairs), "reason": "fewer than three examples"}
    overlap, gain = zip(*pairs, strict=True)
    for name, values in (("overlap", overlap), ("gain", gain)):
        if len(set(values)) == 1:
            return {"examples": len(pairs), "reason": f"the {name} is the same for every example"}
    from scipy.stats import pearsonr, spearmanr

    linear, ranks = pearsonr(overlap, gain), spearmanr(overlap, gain)
    return {
        "examples": len(pairs),
        "pearson": float(linear.statistic),
        "pearson_p": float(linear.pvalue),
        "spearman": float(ranks.statistic),
        "spearman_p": float(ranks.pvalue),
    }


def _substitution(run: Run) -> dict[str, Any] | None:
    """What the test set's evaluation found with warmups replaced; None for a run that was evaluated without it."""
    path = run.folder / "warmup_analysis.json"
    try:
        found = read_json(path) if path.exists() else None
        if found is not None:
            for part in found["warmups"].values():
                (
                    float(part["changed"]),
                    float(part.get("target_nll", 0)),
                    {name: float(value) for name, value in part["scores"].items()},
                )
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return found


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
    names = [_label(analysis, analyses) for analysis in analyses]
    return [_content(analyses, names), _diversity(analyses, names), _gains(analyses, names), _effects(analyses, names)]


def markdown_analysis(analyses: Sequence[dict[str, Any]]) -> str:
    """The page `analysis.md`."""
    parts = ["# Warmup analysis"]
    for grid in grids(analyses):
        lines = [list(grid.header), ["---", *["---:"] * (len(grid.header) - 1)], *grid.rows]
        shown = [lines[0], lines[1], *([markdown_text(cell) for cell in row] for row in lines[2:])]
        parts += [f"## {grid.title}", "\n".join(f"| {' | '.join(line)} |" for line in shown), grid.caption]
    return "\n\n".join([*parts, *([] if analyses else ["No run with warmups has finished."])]) + "\n"


def _label(analysis: dict[str, Any], analyses: Sequence[dict[str, Any]]) -> str:
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
        numbers = [_number(a["length_words"]), _number(a["length_characters"]), _percent(a["different_warmups"])]
        rows.append([name, *numbers, *(_number(a["distinct"][n]) for n in "123"), frequent or EMPTY])
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
        mean = [EMPTY] * 3
        if gain:
            shares = "/".join(f"{100 * gain[key]:.0f}" for key in ("better", "equal", "worse"))
            mean = [score_title(gain["score"] or ""), f"{gain['mean']:+.2f}", shares]
        if "reason" in link:
            rows.append([name, *mean, link["reason"], EMPTY, str(link["examples"])])
        else:
            found = [f"{link[kind]:+.2f} ({_p_value(link[f'{kind}_p'])})" for kind in ("pearson", "spearman")]
            rows.append([name, *mean, *found, str(link["examples"])])
    scores = [a["gain"]["score"] for a in analyses if a["gain"]]
    return Grid(
        "Overlap and gain",
        ["run", "score", "mean gain", "better/equal/worse (%)", "Pearson", "Spearman", "examples"],
        rows,
        "Gain: each example's score of warmup minus SFT's, paired by source. Correlated with it: the share of the "
        f"warmup's words that the reference has. A warmup without words is left out. {reversed_gains(scores)}".rstrip(),
    )


def _effects(analyses: Sequence[dict[str, Any]], names: Sequence[str]) -> Grid:
    rows = []
    for name, a in zip(names, analyses, strict=True):
        found = a["substitution"]
        if found is None:
            rows.append([name, "not evaluated: run=evaluate checkpoint=RUN/model measures it", *[EMPTY] * 4])
            continue
        kinds = found["warmups"]
        for score in kinds["own"]["scores"]:
            values = [_number(kinds[kind]["scores"].get(score)) if kind in kinds else EMPTY for kind in SUBSTITUTES]
            shares = [_percent(kinds[kind]["changed"]) if kind in kinds else EMPTY for kind in ("shuffled", "empty")]
            rows.append([name, score_title(score), *values, "/".join(shares)])
        if "target_nll" in kinds["own"]:  # runs that were made before it was measured have none
            values = [_number(kinds[kind]["target_nll"]) if kind in kinds else EMPTY for kind in SUBSTITUTES]
            rows.append([name, "target NLL", *values, EMPTY])
    return Grid(
        "Warmups replaced",
        ["run", "score", *SUBSTITUTES.values(), "answers changed"],
        rows,
        "Test scores when the model must go on behind its own warmup, behind another input's, or behind an empty one; "
        "and the share of answers that another's/an empty one changes. Target NLL: nats per token of the reference. "
        "Over the first 500 examples at most.",
    )


def _percent(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.1f}%"


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"
