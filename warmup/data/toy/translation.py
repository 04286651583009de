"""English to Toyish, an invented language with its own words, particles, numerals and word order.

    the small cats that chased a bird visit 19 dogs today
    ->  oggi pelo u ze yalo ko ri miro ma nim tasu bi ok tri ze vost

Toyish puts the adverb first and the verb last, adjectives after their noun, `ma` after a plural, `u` after an
indefinite noun phrase, `ze` after the object, `ko` after a verb of the past, and a relative clause, closed by `ri`,
before its noun. It counts in eights: 19 is `bi ok tri`, two eights and three; the numeral stands after noun and
adjective, without `ma` and `u`. Each English sentence has one translation. There are more than a billion sentences of
five to 13 words. Relative clauses and numerals are what a tiny model does not learn in the demo's steps.
"""

from __future__ import annotations

import random

NOUNS = {
    "cat": "miro",
    "dog": "tasu",
    "bird": "pelo",
    "horse": "kanda",
    "farmer": "orvi",
    "teacher": "lesta",
    "king": "zumo",
    "baker": "brin",
    "sailor": "dako",
    "doctor": "felu",
    "girl": "wena",
    "boy": "sipo",
    "robot": "garu",
    "lion": "hemt",
}
ADJECTIVES = {
    "small": "nim",
    "big": "gor",
    "red": "rass",
    "tired": "uld",
    "young": "yeni",
    "happy": "hava",
    "quiet": "silu",
    "brave": "bront",
    "clever": "klei",
    "poor": "pau",
}
# regular verbs in -e take -d, the others -ed
VERBS = {
    "help": "jal",
    "follow": "fenno",
    "call": "kelt",
    "paint": "pirra",
    "visit": "vost",
    "chase": "yalo",
    "clean": "wim",
    "need": "dush",
    "greet": "nako",
    "praise": "tolo",
}
ADVERBS = {
    "today": "oggi",
    "slowly": "lentu",
    "often": "oftu",
    "again": "denu",
    "here": "hir",
    "together": "samo",
}
PLURAL, INDEFINITE, OBJECT, PAST, RELATIVE = "ma", "u", "ze", "ko", "ri"
TOYISH_DIGITS = ("", "un", "bi", "tri", "kva", "pent", "seks", "hep")
EIGHTS = "ok"
LARGEST_NUMERAL = 63


def sentence_pair(rng: random.Random) -> dict[str, str]:
    """One sentence and its translation: `source`, `target`."""
    subject, toyish_subject, plural = _noun_phrase(rng)
    if rng.random() < 0.25:
        clause, toyish_clause = _verb_phrase(rng, plural)
        subject, toyish_subject = [*subject, "that", *clause], [*toyish_clause, RELATIVE, *toyish_subject]
    predicate, toyish_predicate = _verb_phrase(rng, plural)
    adverb = rng.choice(list(ADVERBS)) if rng.random() < 0.5 else None
    english = [*subject, *predicate, *([adverb] if adverb else [])]
    toyish = [*([ADVERBS[adverb]] if adverb else []), *toyish_subject, *toyish_predicate]
    return {"source": " ".join(english), "target": " ".join(toyish)}


def _verb_phrase(rng: random.Random, plural: bool) -> tuple[list[str], list[str]]:
    """English and Toyish words of a verb with its object; `plural`: of the subject."""
    object_, toyish_object, _ = _noun_phrase(rng)
    verb = rng.choice(list(VERBS))
    past = rng.random() < 0.5
    toyish = [*toyish_object, OBJECT, VERBS[verb], *([PAST] if past else [])]
    return [_inflected(verb, past, plural), *object_], toyish


def _inflected(verb: str, past: bool, plural: bool) -> str:
    if past:
        return verb + ("d" if verb.endswith("e") else "ed")
    return verb if plural else verb + "s"


def _noun_phrase(rng: random.Random) -> tuple[list[str], list[str], bool]:
    """English words, Toyish words, and whether it is a plural."""
    noun = rng.choice(list(NOUNS))
    adjective = rng.choice(list(ADJECTIVES)) if rng.random() < 0.5 else None
    plural, definite = rng.random() < 0.5, rng.random() < 0.5
    count = rng.randint(2, LARGEST_NUMERAL) if plural and rng.random() < 0.5 else None
    article = str(count) if count else "the" if definite else "some" if plural else "a"
    english = [article, *([adjective] if adjective else []), noun + ("s" if plural else "")]
    toyish = [
        NOUNS[noun],
        *([PLURAL] if plural and not count else []),
        *([ADJECTIVES[adjective]] if adjective else []),
        *(_numeral(count) if count else [] if definite else [INDEFINITE]),
    ]
    return english, toyish, plural


def _numeral(count: int) -> list[str]:
    """`count` (1 to 63) in eights."""
    eights, ones = divmod(count, 8)
    return [*([TOYISH_DIGITS[eights], EIGHTS] if eights else []), *([TOYISH_DIGITS[ones]] if ones else [])]
