"""sacrebleu's statistics of each example, for a whole corpus at once: the n-grams that BLEU and chrF++ are sums of.

sacrebleu counts them sentence by sentence in Python; here an n-gram is a whole number, and numpy counts equal ones.
How a text is cut is left to sacrebleu. Tests hold the statistics equal to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from warmup.metrics.sacrebleu_sums import BLEU_ORDERS

if TYPE_CHECKING:
    from warmup.metrics.metric import Array

Numbers = npt.NDArray[np.int64]
MOST = 2**62  # the numbers stay below it: an n-gram's and its example's fit into 64 bits
LETTER_ORDERS, WORD_ORDERS = 6, 2  # of chrF++


def bleu_terms(scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> Array:
    """[examples, 2 + 2 * orders], as `bleu_of_sums` reads them; `scorer` is sacrebleu's BLEU."""
    cut = word_pieces(scorer._preprocess_segment(text).split() for text in (*predictions, *references))
    answered, _, both = count_ngrams(cut, BLEU_ORDERS)
    lengths = cut.lengths.reshape(2, -1).T
    return np.concatenate([lengths, both, answered], axis=1)


def chrf_terms(scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> Array:
    """[examples, 3 * orders], as `chrf_of_sums` reads them; `scorer` is sacrebleu's CHRF."""
    texts = (*predictions, *references)
    of_letters = count_ngrams(letter_pieces(["".join(text.split()) for text in texts]), LETTER_ORDERS)
    of_words = count_ngrams(word_pieces(map(scorer._remove_punctuation, texts)), WORD_ORDERS)
    answered, wanted, both = (np.concatenate(parts, axis=1) for parts in zip(of_letters, of_words, strict=True))
    counts = np.stack([np.where(wanted > 0, answered, 0), wanted, both], axis=-1)
    return counts.reshape(len(counts), -1)


@dataclass(frozen=True)
class Pieces:
    """The words or letters of each text as whole numbers from 0, equal ones with one number."""

    numbers: Numbers  # [all pieces of all texts, one text after another]
    lengths: Numbers  # [texts]


def word_pieces(texts: Iterable[Sequence[str]]) -> Pieces:
    """Of texts that are cut into words already."""
    known: dict[str, int] = {}
    rows = [[known.setdefault(word, len(known)) for word in text] for text in texts]
    return Pieces(
        np.fromiter((number for row in rows for number in row), np.int64),
        np.array([len(row) for row in rows], np.int64),
    )


def letter_pieces(texts: Sequence[str]) -> Pieces:
    """Of the letters of each text."""
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    numbers = np.unique(letters, return_inverse=True)[1].astype(np.int64)
    return Pieces(numbers, np.array([len(text) for text in texts], np.int64))


def count_ngrams(pieces: Pieces, orders: int) -> tuple[Array, Array, Array]:
    """N-grams of 1 to `orders` pieces: of the answers, of the references, and in both, each [examples, orders].

    An n-gram is in both as often as in the text that has it less often.

    Args:
        pieces: of all answers, and then of as many references.
    """
    examples = len(pieces.lengths) // 2
    row = np.repeat(np.arange(2 * examples), pieces.lengths)
    example, of_answer = row % examples, row < examples
    left = np.repeat(np.cumsum(pieces.lengths), pieces.lengths) - np.arange(len(row))  # pieces from here to the end
    kinds = int(pieces.numbers.max(initial=0)) + 1
    gram, size = np.zeros_like(pieces.numbers), 1  # of each place the n-gram that begins there, from 0 to size - 1
    found: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for order in range(1, orders + 1):
        if size * kinds >= MOST // max(examples, 1):
            distinct, gram = np.unique(gram, return_inverse=True)
            size = len(distinct)
        whole = left >= order
        gram = gram * kinds
        gram[whole] += pieces.numbers[np.flatnonzero(whole) + order - 1]
        size *= kinds
        keys = example * size + gram
        sides = [np.unique(keys[whole & side], return_counts=True) for side in (of_answer, ~of_answer)]
        for counts, values in zip(found, (*sides, _smaller(*sides)), strict=True):
            counts.append(np.bincount(values[0] // size, values[1], minlength=examples).astype(float))
    answered, wanted, both = (np.stack(counts, axis=-1) for counts in found)
    return answered, wanted, both


def _smaller(first: tuple[Numbers, Numbers], second: tuple[Numbers, Numbers]) -> tuple[Numbers, Numbers]:
    """What both hold, sorted and each once, with the smaller of its two counts."""
    (values, counts), (others, theirs) = first, second
    if not len(others):
        return others, theirs
    place = np.minimum(np.searchsorted(others, values), len(others) - 1)
    same = others[place] == values
    return values[same], np.minimum(counts[same], theirs[place[same]])
