"""What ROUGE's tokenizer can read: the letters a-z and digits, whatever the language.

All else parts words: "über" is "ber", and a Hindi sentence is nothing. A score of what is left says little, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

READS = "rouge_score reads the letters a-z and digits only"
# At least half of what a reference says must be read, or its score is more about the rest than about the answer.
READ_ENOUGH = 0.5
_WHOLE_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*")
_LETTER_OR_DIGIT = regex.compile(r"[\p{L}\p{N}\p{M}]")  # vowel signs are marks in the scripts of India
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

    @property
    def note(self) -> str:
        """How many words are cut or dropped; empty where none is."""
        if not self.cut:
            return ""
        share = f"{self.cut} of {self.words} words of the references ({100 * self.cut / self.words:.2g} %)"
        note = f"ROUGE: {READS}, and cuts or drops {share} at others"
        return note + (f"; {self.illegible_in_words} and score next to 0" if self.illegible else "")


def legibility(references: Sequence[str]) -> Legibility:
    """Count what rouge_score's tokenizer keeps of `references`; it puts text in small letters first."""
    illegible = letters = dropped = words = cut = 0
    for reference in references:
        text = reference.lower()
        total, read = len(_LETTER_OR_DIGIT.findall(text)), len(_READ.findall(text))
        found = _WHOLE_WORD.findall(text)
        letters += total
        dropped += total - read
        words += len(found)
        cut += sum(_DROPPED.search(word) is not None for word in found)
        illegible += read < READ_ENOUGH * total or not total
    return Legibility(len(references), illegible, letters, dropped, words, cut)
