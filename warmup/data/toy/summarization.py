"""News reports of two incidents, with a one-sentence gist of the worse one.

A report tells in shuffled sentences what hit either of two towns when, how many were hurt there and who helped. The
gist is of the incident that hurt more people, and needs every one of its facts and none
of the others': to choose takes a comparison, and to find the facts takes matching sentences by their town. Its time of
day is left out. There are billions of reports, of about 45 words.
"""

from __future__ import annotations

import random

EVENTS = ("fire", "flood", "storm", "blackout", "robbery", "crash")
SITES = ("school", "station", "bridge", "market", "library", "harbour", "factory", "museum")
TOWNS = ("Arden", "Belham", "Corfield", "Denby", "Elmstead", "Farley", "Gorton", "Hexley")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("morning", "afternoon", "evening", "night")
HELPERS = ("police", "soldiers", "doctors", "neighbours", "volunteers", "students")
HURT = ("nobody", "two people", "three people", "four people", "five people", "six people")  # in rising order


def news_report(rng: random.Random) -> dict[str, str]:
    """One report and its gist: `document`, `summary`."""
    town, other = rng.sample(TOWNS, 2)
    less, more = sorted(rng.sample(range(len(HURT)), 2))
    sentences, gist = _incident(rng, town, HURT[more])
    sentences += _incident(rng, other, HURT[less])[0]
    rng.shuffle(sentences)
    return {"document": " ".join(sentences), "summary": gist}


def _incident(rng: random.Random, town: str, hurt: str) -> tuple[list[str], str]:
    """Three sentences on what happened in `town`, each of which names it, and their gist."""
    event, site, day, time = rng.choice(EVENTS), rng.choice(SITES), rng.choice(DAYS), rng.choice(TIMES)
    helpers = rng.choice(HELPERS)
    was = "was" if hurt == "nobody" else "were"
    sentences = [
        rng.choice(
            (
                f"On {day} {time} a {event} hit the {site} in {town}.",
                f"The {site} in {town} was hit by a {event} on {day} {time}.",
            )
        ),
        rng.choice((f"{hurt.capitalize()} {was} hurt in {town}.", f"In {town} {hurt} {was} hurt.")),
        rng.choice((f"The {helpers} came to help in {town}.", f"In {town} help came from the {helpers}.")),
    ]
    return sentences, f"A {event} at the {town} {site} on {day} hurt {hurt} and the {helpers} helped."
