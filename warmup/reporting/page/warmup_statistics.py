"""What warmups are made of, and what they do: the figures of `analysis.json`.

The paper finds that warmups work at the lexical level: they hold words of the answer. So words are counted
(`paired_examples.words`: lower case, without punctuation), against the source, the reference and another example's
reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from warmup.errors import UserError
from warmup.runs.finding import Run
from warmup.runs.metrics_records import WarmupAnalysis
from warmup.runs.paired_examples import PairedExamples, different_words, words_of_each

MOST_FREQUENT = 10


def analyse(examples: PairedExamples) -> dict[str, Any]:
    """Statistics of one warmup run's warmups; shares are 0 to 1, scores in percent, what cannot be had is None.

    `in_source`, `in_reference`: share of all warmup words that their example's text has; `in_reference_only`: in the
    reference and not in the source; `in_other_reference`: in the next example's reference, which is what chance gives.
    `distinct`: different n-grams of words over all n-grams (Li et al. 2016), n = 1 to 3, over the whole test set.
    """
    warmups = [warmup or "" for warmup in examples.warmups]
    tokens = words_of_each(tuple(warmups))
    sources, references = (different_words(tuple(texts)) for texts in (examples.sources, examples.references))
    others = [*references[1:], *references[:1]]
    only = [reference - source for reference, source in zip(references, sources, strict=True)]
    counts = Counter(warmups)
    return {
        "run": str(examples.run.folder),
        "sft": examples.sft and str(examples.sft.folder),
        "task": examples.run.task,
        "model": examples.run.model_name,
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
        "overlap_and_gain": correlation(examples.overlaps, examples.gains),
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
    try:
        found = WarmupAnalysis.read(run.folder)
    except UserError:  # which finding the run has named
        return None
    return None if found is None else asdict(found)
