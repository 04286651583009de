"""The toy tasks: repeatable, without repetition, and honest (one right answer, checked by other means)."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable

import pytest

from warmup.config.schema import OptionsConfig
from warmup.data.examples import Wording
from warmup.data.toy import LARGEST, generate
from warmup.data.toy.translation import ADJECTIVES, ADVERBS, NOUNS, VERBS
from warmup.errors import UserError

TASKS = ["translation", "summarization", "logiqa", "custom"]
Form = tuple[str, str, str]  # quantifier, subject, predicate


@pytest.mark.parametrize("task", TASKS)
def test_generation_is_seeded_distinct_and_grows_by_appending(task: str) -> None:
    records = generate(task, 300, seed=4)
    assert generate(task, 100, seed=4) == records[:100]
    assert generate(task, 100, seed=5) != records[:100]
    texts = [repr({k: v for k, v in record.items() if k not in ("target", "summary", "answer")}) for record in records]
    assert len(set(texts)) == len(texts)


def test_more_than_the_language_holds_is_refused_with_the_largest_size() -> None:
    with pytest.raises(UserError, match=f"{LARGEST}$"):
        generate("translation", LARGEST + 1, 0)


OCTAL_DIGITS = dict(zip("1234567", ["un", "bi", "tri", "kva", "pent", "seks", "hep"], strict=True))
FORMS_OF_VERBS = {verb + ending: (verb, ending) for verb in VERBS for ending in ("", "s", "d", "ed")}


def numeral(text: str) -> str:
    """A number in Toyish, from its digits in base eight."""
    octal = f"{int(text):o}".rjust(2, "0")
    assert len(octal) == 2 and int(text) >= 2
    eights, ones = (OCTAL_DIGITS.get(digit, "") for digit in octal)
    return f"{eights and eights + ' ok'} {ones}".strip()


def parse_noun_phrase(words: list[str]) -> tuple[str, str]:
    """What an English noun phrase at the head of `words` (consumed) is in Toyish, and its number."""
    article = words.pop(0)
    adjective = words.pop(0) if words[0] in ADJECTIVES else None
    noun = words.pop(0)
    number = "singular" if noun in NOUNS else "plural"
    counted = article.isdigit()
    assert number == "plural" if counted else article in ("the", {"singular": "a", "plural": "some"}[number])
    parts = [NOUNS[noun if number == "singular" else noun.removesuffix("s")]]
    parts += ["ma"] if number == "plural" and not counted else []
    parts += [ADJECTIVES[adjective]] if adjective else []
    parts += [numeral(article)] if counted else ["u"] if article != "the" else []
    return " ".join(parts), number


def parse_verb_phrase(words: list[str], number: str) -> str:
    """What an English verb with its object, at the head of `words` (consumed), is in Toyish; checks its agreement."""
    verb, ending = FORMS_OF_VERBS[words.pop(0)]
    assert ending in ("d", "ed") or (ending == "s") == (number == "singular")
    object_, _ = parse_noun_phrase(words)
    return f"{object_} ze {VERBS[verb]} {'ko' if ending in ('d', 'ed') else ''}".strip()


def test_toyish_follows_its_grammar() -> None:
    for record in generate("translation", 1000, seed=0):
        words = record["source"].split()
        assert 5 <= len(words) <= 13
        toyish, number = parse_noun_phrase(words)
        if words[0] == "that":
            words.pop(0)
            toyish = f"{parse_verb_phrase(words, number)} ri {toyish}"
        toyish += f" {parse_verb_phrase(words, number)}"
        adverb = ADVERBS[words.pop(0)] if words else ""
        assert not words
        assert record["target"] == f"{adverb} {toyish}".strip()


def test_toyish_counts_in_eights() -> None:
    numerals = {count: numeral(str(count)) for count in (2, 8, 19, 40, 63)}
    assert numerals == {2: "bi", 8: "un ok", 19: "bi ok tri", 40: "pent ok", 63: "hep ok hep"}
    found = {word for record in generate("translation", 2000, seed=0) for word in record["source"].split()}
    assert {int(word) for word in found if word.isdigit()} == set(range(2, 64))


def test_toyish_words_stand_for_one_thing_each() -> None:
    words = [*NOUNS.values(), *ADJECTIVES.values(), *VERBS.values(), *ADVERBS.values(), *OCTAL_DIGITS.values()]
    words += ["ma", "u", "ze", "ko", "ri", "ok"]
    assert len(set(words)) == len(words)
    assert not set(words) & {*NOUNS, *ADJECTIVES, *VERBS, *ADVERBS}


def incidents(document: str) -> dict[str, dict[str, str]]:
    """What a report says of each town, from its sentences alone: event, site, day, hurt, helpers."""
    patterns = [
        r"On (?P<day>\w+) \w+ a (?P<event>\w+) hit the (?P<site>\w+) in (?P<town>\w+)",
        r"The (?P<site>\w+) in (?P<town>\w+) was hit by a (?P<event>\w+) on (?P<day>\w+) \w+",
        r"(?P<hurt>\w+( people)?) (was|were) hurt in (?P<town>\w+)",
        r"In (?P<town>\w+) (?P<hurt>\w+( people)?) (was|were) hurt",
        r"The (?P<helpers>\w+) came to help in (?P<town>\w+)",
        r"In (?P<town>\w+) help came from the (?P<helpers>\w+)",
    ]
    found: dict[str, dict[str, str]] = {}
    for sentence in document.rstrip(".").split(". "):
        (match,) = filter(None, (re.fullmatch(pattern, sentence) for pattern in patterns))
        facts = match.groupdict()
        assert not facts.keys() & found.setdefault(facts["town"], {}).keys() - {"town"}
        found[facts["town"]] |= facts
    return found


def test_the_gist_is_of_the_worse_incident_and_says_nothing_of_the_other() -> None:
    rising = ["nobody", "two people", "three people", "four people", "five people", "six people"]
    for record in generate("summarization", 500, seed=0):
        document, gist = record["document"], record["summary"]
        assert 40 <= len(document.split()) <= 55
        one, other = incidents(document).values()
        ranks = [rising.index(facts["hurt"].lower()) for facts in (one, other)]
        assert ranks[0] != ranks[1] and len(one) == len(other) == 6
        worse = one if ranks[0] > ranks[1] else other
        told = "A {event} at the {town} {site} on {day} hurt {hurt} and the {helpers} helped."
        assert gist == told.format(**worse | {"hurt": rising[max(ranks)]})


def test_the_worse_incident_is_not_given_away_by_its_place() -> None:
    records = generate("summarization", 2000, seed=0)
    first = sum(record["summary"].split()[4] == next(iter(incidents(record["document"]))) for record in records)
    assert 0.45 < first / len(records) < 0.55


def parse(statement: str) -> Form:
    words = statement.rstrip(".").split()
    if words[0] == "Some":
        return ("Some not" if "not" in words else "Some", words[1], words[-1])
    return (words[0], words[1], words[-1])


# A model says which of the eight kinds of thing (in or out of each of three categories) exist.
KINDS = [frozenset(c for c, inside in enumerate(row) if inside) for row in itertools.product([0, 1], repeat=3)]
MODELS = [
    [kind for kind, there in zip(KINDS, row, strict=True) if there] for row in itertools.product([0, 1], repeat=8)
]
HOLDS: dict[str, Callable[[list[frozenset[int]], int, int], bool]] = {
    "All": lambda model, s, p: all(p in kind for kind in model if s in kind),
    "No": lambda model, s, p: not any(s in kind and p in kind for kind in model),
    "Some": lambda model, s, p: any(s in kind and p in kind for kind in model),
    "Some not": lambda model, s, p: any(s in kind and p not in kind for kind in model),
}


def entailed(premises: list[Form], options: list[Form]) -> list[int]:
    """The options that hold in every model of the premises: a decision procedure, not a list of moods."""
    names = sorted({term for _, *terms in premises + options for term in terms})
    assert len(names) == 3

    def holds(model: list[frozenset[int]], form: Form) -> bool:
        return HOLDS[form[0]](model, names.index(form[1]), names.index(form[2]))

    models = [model for model in MODELS if all(holds(model, premise) for premise in premises)]
    assert models
    return [index for index, option in enumerate(options) if all(holds(model, option) for model in models)]


def test_the_solver_knows_a_valid_and_an_invalid_syllogism() -> None:
    premises = [parse("All a are b."), parse("No b are c.")]
    options = [parse(text) for text in ("All a are c", "No c are a", "Some c are a", "Some a are not c")]
    assert entailed(premises, options) == [1]
    assert entailed([parse("Some a are b"), parse("Some b are c")], options) == []


def test_exactly_one_option_follows_and_it_is_the_answer() -> None:
    for record in generate("logiqa", 400, seed=0):
        premises = [parse(sentence) for sentence in record["text"].split(". ")]
        options = [parse(option) for option in record["options"]]
        assert entailed(premises, options) == [record["answer"]]


def test_the_answer_cannot_be_guessed() -> None:
    """Neither from its letter, nor from the options alone, nor from the words shared with the premises."""
    records = generate("logiqa", 4000, seed=0)
    letters = Counter(record["answer"] for record in records)
    assert max(letters.values()) / 4000 < 0.28
    by_options: dict[tuple[object, ...], Counter[int]] = {}
    overlap = 0.0
    for record in records:
        options = [parse(option) for option in record["options"]]
        first = options[0][1]
        pattern = tuple((form, subject == first) for form, subject, _ in options)
        by_options.setdefault(pattern, Counter())[record["answer"]] += 1
        shared = [len(set(option.split()) & set(re.findall(r"\w+", record["text"]))) for option in record["options"]]
        best = [index for index, count in enumerate(shared) if count == max(shared)]
        overlap += (record["answer"] in best) / len(best)
    assert sum(max(counts.values()) for counts in by_options.values()) / 4000 < 0.35
    assert overlap / 4000 < 0.6


def test_questions_are_short() -> None:
    wording = Wording("logiqa", "{question} {options} {text}", "{answer}", options=OptionsConfig("options", "answer"))
    for record in generate("logiqa", 300, seed=0):
        assert len(wording.example(record, "toy").prompt.split()) <= 45
