"""A language under any of its names: its code stands in tables, its name in prompts, its script picks BLEU's tokenizer.

langcodes and its data are imported where they are used: they take a third of a second.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from dataclasses import dataclass
from functools import cache

from warmup.errors import wrong_value

# How the library names what is no single language, or none that it knows.
NO_LANGUAGE = re.compile(r"Unknown language|No linguistic content|.* languages$|.* \(family\)$")


@dataclass(frozen=True)
class Language:
    """One language; what else a code says (region, script) makes it no other.

    Attributes:
        code: ISO 639, the shortest there is: "de", "zh", "yue".
        name: in English: "German", "Chinese", "Cantonese".
        script: ISO 15924, the one that was named or else the usual one: "Latn", "Hans", "Hant".
    """

    code: str
    name: str
    script: str


# Made up by the toy generator; ISO 639 keeps qaa..qtz for private use.
TOY = Language("qtz", "Toyish", "Latn")


@cache
def find_language(text: str) -> Language | None:
    """The language that `text` names; None for what is no language.

    A code of ISO 639 or BCP 47 ("zh", "zho", "zh-CN"), one of FLORES-200 ("zho_Hans"), or a name ("Chinese", "中文").
    A code of the standard or most spoken variety is its language: "cmn" is "zh", "arb" is "ar".
    """
    if text.lower() in (TOY.code, TOY.name.lower()):
        return TOY
    name = re.sub(r"\s*\(.*\)$", "", text)  # as in "Chinese (Simplified)"
    two_or_three_letters = len(name) <= 3 and name.isascii()  # a code, or a mistake
    return _of_code(text) or (None if two_or_three_letters else _of_name(name))


def resolve_language(key: str, text: str) -> Language:
    """The language that `text`, the value of `key`, names.

    Raises:
        UserError: it is no language; the nearest is named.
    """
    found = find_language(text)
    if found is None:
        allowed = "a language by its code or name, as zh, zho_Hans or Chinese"
        raise wrong_value(key, text, allowed, _nearest(text))
    return found


def language_code(text: str | None) -> str:
    """The code of the language that `text` names; `text` itself where there is none."""
    found = find_language(text or "")
    return found.code if found else str(text)


def language_name(text: str | None) -> str:
    """The English name of the language that `text` names; `text` itself, or nothing, where there is none."""
    found = find_language(text or "")
    return found.name if found else text or ""


def _of_name(name: str) -> Language | None:
    import langcodes
    from language_data.names import TRIES, normalize_name

    try:
        tag = langcodes.find(name).to_tag()
    except LookupError:
        return None
    # the library also takes "Klingonese" for Klingon and "english-french" for English, by how they begin
    return _of_code(tag) if normalize_name(name) in TRIES["und/name_to_language"] else None


def _of_code(tag: str) -> Language | None:
    from langcodes import LIKELY_SUBTAGS, LanguageTagError, standardize_tag
    from langcodes import Language as Tag
    from langcodes.data_dicts import MACROLANGUAGES

    try:
        given, language = Tag.get(tag), Tag.get(standardize_tag(tag, macro=True))
    except LanguageTagError:
        return None
    code = language.language
    if code is None or not given.is_valid() or not language.is_valid():
        return None
    name = language.language_name()
    if NO_LANGUAGE.match(name):
        return None
    # not every variety of Chinese has a usual script in the library, but Chinese has
    usual = language if code in LIKELY_SUBTAGS else Tag.get(MACROLANGUAGES.get(code, code))
    return Language(code, name, language.script or usual.maximize().script or "")


def _nearest(text: str) -> str:
    """As `warmup.errors.nearest`: a code's or a name's beginning, what a country speaks, or the likest code or name."""
    from langcodes import LIKELY_SUBTAGS, find
    from langcodes import Language as Tag
    from language_data.population_data import LANGUAGE_SPEAKING_POPULATION as SPEAKERS

    first = re.split(r"[^\w]|_", text)[0]
    codes = [code for code in SPEAKERS if "-" not in code]
    words = {code: Tag.get(code).language_name() for code in codes}
    if len(text) <= 3:
        words = {code: code for code in codes if len(code) == len(text)} or words

    def likeness(code: str) -> tuple[float, bool, int]:
        ratio = difflib.SequenceMatcher(None, text.lower(), words[code].lower()).ratio()
        return ratio, words[code][0].lower() == text[:1].lower(), SPEAKERS[code]

    best = max(words, key=likeness)
    meant = words[best] if likeness(best)[0] >= 0.5 else None
    if spoken := LIKELY_SUBTAGS.get(f"und-{text.upper()}"):  # "jp" and "cz" are countries
        meant = Tag.get(spoken).language
    if len(text) > 3:
        with contextlib.suppress(LookupError):
            meant = find(text).language_name()
    if first != text and (found := find_language(first)):
        meant = found.code
    return f"; did you mean '{meant}'?" if meant else ""
