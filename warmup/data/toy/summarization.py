"""Short news reports with a one-sentence gist.

A report tells in shuffled sentences what hit which place when, how many were hurt and who helped, among one or
two sentences about another town. The gist needs every one of those facts and none of the others; its time of day
is left out. There are billions of reports, of 25 to 40 words.
"""

from __future__ import annotations

import random

EVENTS = ("fire", "flood", "storm", "blackout", "robbery", "crash")
SITES = ("school", "station", "bridge", "market", "library", "harbour", "factory", "museum")
TOWNS = ("Arden", "Belham", "Corfield", "Denby", "Elmstead", "Farley", "Gorton", "Hexley")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("morning", "afternoon", "evening", "night")
HELPERS = ("police", "soldiers", "doctors", "neighbours", "volunteers", "students")
HURT = ("nobody", "two people", "three people", "four people", "five people", "six people")
WEATHER = ("dry", "wet", "cold", "mild")


def news_report(rng: random.Random) -> dict[str, str]:
    """One report and its gist: `document`, `summary`."""
    event, site, day, time = rng.choice(EVENTS), rng.choice(SITES), rng.choice(DAYS), rng.choice(TIMES)
    helpers, hurt = rng.choice(HELPERS), rng.choice(HURT)
    town, elsewhere = rng.sample(TOWNS, 2)
    lead = (
        f"On {day} {time} a {event} hit the {site} in {town}.",
        f"The {site} in {town} was hit by a {event} on {day} {time}.",
    )
    help_ = (f"The {helpers} came to help.", f"Help came from the {helpers}.")
    sentences = [
        rng.choice(lead),
        f"{hurt.capitalize()} {'was' if hurt == 'nobody' else 'were'} hurt.",
        rng.choice(help_),
        *_other_news(rng, elsewhere, rng.choice([other for other in DAYS if other != day])),
    ]
    rng.shuffle(sentences)
    gist = f"A {event} at the {town} {site} on {day} hurt {hurt} and the {helpers} helped."
    return {"document": " ".join(sentences), "summary": gist}


def _other_news(rng: random.Random, town: str, day: str) -> list[str]:
    """One or two sentences that the gist must leave out."""
    news = [
        f"Buses in {town} will be late on {day}.",
        f"The weather in {town} was {rng.choice(WEATHER)} all week.",
        f"A new road to {town} opens on {day}.",
        f"Tickets for the {rng.choice(SITES)} in {town} cost more now.",
    ]
    return rng.sample(news, rng.choice((1, 2)))
