"""Syllogisms with four options, exactly one of which follows.

    All feps are zibs. No zibs are wugs. Which one must be true even if a category is empty?
    A) All feps are wugs  B) No feps are wugs  C) Some feps are wugs  D) Some wugs are not feps

The fifteen moods that are valid in modern logic (where "all" says nothing of existence), over made-up categories.
Each of the four options is as often the answer as the others, so that the options alone give nothing away, and all
are about the same two categories: it takes both quantifiers and the direction of the premises. Options stand in
alphabetical order, without which a tiny model needs minutes to learn to point at a letter.
Measured accuracy: chance 25 %, the option that shares most words with the premises 53 %, both quantifiers without
the direction 80 %; a T5 of two layers after 200 and 600 steps of 32 questions 55 % and 69 %.
"""

from __future__ import annotations

import random
from typing import Any

# fmt: off
CATEGORIES = (
    "wugs", "feps", "zibs", "tomas", "blicks", "lorps", "rints", "snips", "gorms", "pelks", "daks", "yurns",
    "mavs", "tovs", "hools", "kerns", "brups", "vints", "glons", "sarks", "deebs", "plims", "jorts", "cazes",
)
# fmt: on
# A, E, I and O are logic's own names of the four forms
FORMS = {"A": "All {} are {}", "E": "No {} are {}", "I": "Some {} are {}", "O": "Some {} are not {}"}
# figure: the terms of the two premises, with S and P the subject and predicate of the conclusion, M the middle
SYLLOGISM_FIGURES = {1: ("MP", "SM"), 2: ("PM", "SM"), 3: ("MP", "MS"), 4: ("PM", "MS")}
# conclusion: its moods, as forms of the two premises and figure
MOODS = {
    "A": [("AA", 1)],
    "E": [("EA", 1), ("EA", 2), ("AE", 2), ("AE", 4)],
    "I": [("AI", 1), ("IA", 3), ("AI", 3), ("IA", 4)],
    "O": [("EI", 1), ("EI", 2), ("EI", 3), ("EI", 4), ("AO", 2), ("OA", 3)],
}


def syllogism(rng: random.Random) -> dict[str, Any]:
    """One question: `text`, `question`, `options` (4), `answer` (0 to 3)."""
    one, other, middle = rng.sample(CATEGORIES, 3)
    both = [(one, other), (other, one)]
    # "No" and "Some" say the same in both directions, so only one of the two may be an option
    statements = [("E", *rng.choice(both)), ("I", *rng.choice(both))]
    statements += [(form, *pair) for form in "AO" for pair in both]
    options = rng.sample(statements, 4)
    form, subject, predicate = rng.choice(options)
    forms, figure = rng.choice(MOODS[form])
    terms = {"S": subject, "P": predicate, "M": middle}
    premises = [
        _say(f, terms[pair[0]], terms[pair[1]]) for f, pair in zip(forms, SYLLOGISM_FIGURES[figure], strict=True)
    ]
    rng.shuffle(premises)
    texts = sorted(_say(*option) for option in options)
    return {
        "text": ". ".join(premises) + ".",
        "question": "Which one must be true even if a category is empty?",
        "options": texts,
        "answer": texts.index(_say(form, subject, predicate)),
    }


def _say(form: str, subject: str, predicate: str) -> str:
    return FORMS[form].format(subject, predicate)
