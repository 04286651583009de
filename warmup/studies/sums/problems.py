"""Remainders of sums, and the remarks that stand between a question and its answer in the text of pretraining.

    The sum of 3 1 0 4 2 2 leaves by 5 ?
    3 4 4 3 0 2
    Answer:
    2

The second line may be the running totals (their remainders), as here, from which the answer is read off. More often
it is something useless: the numbers themselves, backwards, sorted, others, or nothing. The answer is right in any case.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from warmup.models.sequence_format import AFTER_SOURCE, WORDED_SEPARATOR

TERMS = 6  # of a sum: too many for a small model to add up in one pass
DIVISOR = 5

Summands = tuple[int, ...]


def running_totals(problem: Summands) -> list[int]:
    """The remainders of the sums of the first, the first two, ... terms."""
    return [total % DIVISOR for total in itertools.accumulate(problem)]


# what is written about a problem that is of no use for its answer, each kind as often as the others
USELESS: tuple[Callable[[Summands, random.Random], list[int]], ...] = (
    lambda problem, rng: list(problem),
    lambda problem, rng: list(problem[::-1]),
    lambda problem, rng: sorted(problem),
    lambda problem, rng: rng.choices(range(DIVISOR), k=len(problem)),
    lambda problem, rng: [],
)


def problems(rng: random.Random) -> Iterator[Summands]:
    """Problems without end; the same one may come again."""
    while True:
        yield tuple(rng.choices(range(DIVISOR), k=TERMS))


def question(problem: Summands) -> str:
    """The problem as a model reads it."""
    return f"The sum of {_spaced(problem)} leaves by {DIVISOR} ?"


def answer(problem: Summands) -> str:
    """The remainder of the problem's sum."""
    return str(sum(problem) % DIVISOR)


def document(problem: Summands, rng: random.Random, worked: float) -> tuple[str, str]:
    """A question, and what follows it in the text of pretraining: a remark and the answer.

    The remark is the running totals in a share `worked` of the documents.
    """
    remark = running_totals(problem) if rng.random() < worked else rng.choice(USELESS)(problem, rng)
    return question(problem), f"{AFTER_SOURCE}{_spaced(remark)}{WORDED_SEPARATOR}{answer(problem)}"


def _spaced(terms: Summands | list[int]) -> str:
    return " ".join(map(str, terms))
