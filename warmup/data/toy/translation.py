"""English to Toyish, an invented language with its own words, particles and word order.

    the small cats chased a bird today  ->  oggi miro ma nim pelo u ze yalo ko

Toyish puts the adverb first and the verb last, adjectives after their noun, `ma` after a plural, `u` after an
indefinite noun phrase, `ze` after the object and `ko` after a verb of the past. Each English sentence has one
translation. There are more than 50 million sentences of five to eight words.
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
PLURAL, INDEFINITE, OBJECT, PAST = "ma", "u", "ze", "ko"


def sentence_pair(rng: random.Random) -> dict[str, str]:
    """One sentence and its translation: `source`, `target`."""
    subject, toyish_subject, plural = _noun_phrase(rng)
    object_, toyish_object, _ = _noun_phrase(rng)
    verb = rng.choice(list(VERBS))
    past = rng.random() < 0.5
    adverb = rng.choice(list(ADVERBS)) if rng.random() < 0.5 else None
    english = [*subject, _inflected(verb, past, plural), *object_, *([adverb] if adverb else [])]
    toyish = [
        *([ADVERBS[adverb]] if adverb else []),
        *toyish_subject,
        *toyish_object,
        OBJECT,
        VERBS[verb],
        *([PAST] if past else []),
    ]
    return {"source": " ".join(english), "target": " ".join(toyish)}


def _inflected(verb: str, past: bool, plural: bool) -> str:
    if past:
        return verb + ("d" if verb.endswith("e") else "ed")
    return verb if plural else verb + "s"


def _noun_phrase(rng: random.Random) -> tuple[list[str], list[str], bool]:
    """English words, Toyish words, and whether it is a plural."""
    noun = rng.choice(list(NOUNS))
    adjective = rng.choice(list(ADJECTIVES)) if rng.random() < 0.5 else None
    plural, definite = rng.random() < 0.5, rng.random() < 0.5
    article = "the" if definite else "some" if plural else "a"
    english = [article, *([adjective] if adjective else []), noun + ("s" if plural else "")]
    toyish = [
        NOUNS[noun],
        *([PLURAL] if plural else []),
        *([ADJECTIVES[adjective]] if adjective else []),
        *([] if definite else [INDEFINITE]),
    ]
    return english, toyish, plural
