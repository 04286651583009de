"""ROUGE, and what its tokenizer can read: the letters a-z and digits, whatever the language.

All else parts words: "über" is "ber", and a Hindi sentence is nothing. A score of what is left says little, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import regex

from warmup.config.schema import METRIC_SCORES
from warmup.metrics.evaluation import Score

# At least half of what a reference says must be read, or its score is more about the rest than about the answer.
READ_ENOUGH = 0.5
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*")
_LETTER = regex.compile(r"[\p{L}\p{N}\p{M}]")  # vowel signs are marks in the scripts of India
_READ = regex.compile(r"[a-z0-9]")
_DROPPED = regex.compile(r"[^a-z0-9]")


@dataclass(frozen=True)
class Legibility:
    """How much of the references ROUGE's tokenizer reads; digits and marks count as letters.

    Attributes:
        references, illegible: how many there are, and of how many it reads less than `READ_ENOUGH`.
        letters, dropped: of all references, and those that it drops.
        words, cut: how many there are, and how many lose a letter or a mark, or all of theirs.
    """

    references: int
    illegible: int
    letters: int
    dropped: int
    words: int
    cut: int

    @property
    def unfit(self) -> bool:
        """Whether less than `READ_ENOUGH` is read, of all letters or of all references."""
        return (
            self.letters - self.dropped < READ_ENOUGH * self.letters
            or self.references - self.illegible < READ_ENOUGH * self.references
        )

    @property
    def illegible_in_words(self) -> str:
        """Which references are not read, and how much is dropped."""
        return (
            f"{self.illegible} of {self.references} references are in other letters, for the most part or all "
            f"({self.dropped} of {self.letters} letters and digits in all of them)"
        )


def legibility(references: Sequence[str]) -> Legibility:
    """Count what rouge_score's tokenizer keeps of `references`; it puts text in small letters first."""
    illegible = letters = dropped = words = cut = 0
    for reference in references:
        text = reference.lower()
        total, read = len(_LETTER.findall(text)), len(_READ.findall(text))
        found = _WORD.findall(text)
        letters += total
        dropped += total - read
        words += len(found)
        cut += sum(_DROPPED.search(word) is not None for word in found)
        illegible += read < READ_ENOUGH * total or not total
    return Legibility(len(references), illegible, letters, dropped, words, cut)


def score_rouge(predictions: Sequence[str], references: Sequence[str]) -> tuple[dict[str, Score] | str, str]:
    """ROUGE-1, -2 and -L: mean F1 over examples, Porter-stemmed (rouge_score, Lin 2004); and a note, or "".

    The newline rule: each summary is one sequence. rougeL is the sentence-level longest common subsequence, as XSum
    papers report it, not rougeLsum; a newline is a space like any other and splits nothing.

    In place of scores stands the reason where the references are mostly in letters that it does not read. The note
    counts the words that it cuts or drops in the others.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    reads, found = "rouge_score reads the letters a-z and digits only", legibility(references)
    if found.unfit:
        return f"{reads}: {found.illegible_in_words}; use chrf", ""
    scorer = RougeScorer(METRIC_SCORES["rouge"], tokenizer=DefaultTokenizer(use_stemmer=True))
    results = [scorer.score(reference, answer) for answer, reference in zip(predictions, references, strict=True)]
    signature = f"rouge_score:{version('rouge_score')}|stemmer:yes|tokenizer:default|newlines:not split|f1:mean"
    scores = {
        name: Score.mean([100 * result[name].fmeasure for result in results], signature)
        for name in METRIC_SCORES["rouge"]
    }
    if not found.cut:
        return scores, ""
    share = f"{found.cut} of {found.words} words of the references ({100 * found.cut / found.words:.2g} %)"
    note = f"ROUGE: {reads}, and cuts or drops {share} at others"
    return scores, note + (f"; {found.illegible_in_words} and score next to 0" if found.illegible else "")
