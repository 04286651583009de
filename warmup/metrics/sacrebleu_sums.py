"""BLEU, chrF++ and TER of many corpora at once, from the sums of sacrebleu's own statistics.

sacrebleu computes one score a call, and a paired test asks for ten thousand. The formulas are those of its
`BLEU.compute_bleu` (smoothing "exp"), `CHRF._compute_f_score` and `TER._compute_score_from_stats`;
tests hold them equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmup.metrics.metric import Array

BLEU_ORDERS = 4
CHRF_BETA = 2


def bleu_of_sums(sums: Array) -> Array:
    """Percent, of sums [..., 2 + 2 * orders]: length, the references' length, right n-grams, n-grams, by order."""
    import numpy as np

    length, wanted = sums[..., 0], sums[..., 1]
    right, all_of = np.split(sums[..., 2:], 2, axis=-1)
    smoothing = 2.0 ** np.cumsum(right == 0, axis=-1)  # each order without a right n-gram counts half of the one before
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = 100 * np.where(right > 0, right, 1 / smoothing) / all_of
        penalty = np.where(length < wanted, np.exp(1 - wanted / length), 1.0)
        score = penalty * np.exp(np.log(precisions).sum(axis=-1) / BLEU_ORDERS)
    found: Array = np.where((right > 0).any(axis=-1) & (all_of > 0).all(axis=-1), score, 0.0)
    return found


def chrf_of_sums(sums: Array) -> Array:
    """Percent, of sums [..., 3 * orders]: n-grams of the answers, of the references, and in both, by order."""
    import numpy as np

    answered, true, both = (sums[..., part::3] for part in range(3))
    there = (answered > 0) & (true > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision, recall = (
        (np.where(there, both, 0.0) / np.where(there, of, 1.0)).sum(axis=-1) / orders for of in (answered, true)
    )
    below = CHRF_BETA**2 * precision + recall
    found: Array = 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(below > 0, below, 1.0)
    return found


def ter_of_sums(sums: Array) -> Array:
    """Percent, of sums [..., 2]: edits and words of the references; edits without a word there count 1."""
    import numpy as np

    edits, words = sums[..., 0], sums[..., 1]
    without = (edits > 0).astype(float)
    found: Array = np.asarray(100 * np.where(words > 0, edits / np.where(words > 0, words, 1.0), without), dtype=float)
    return found
