"""One language under all of its names, and what is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from warmup.config.languages import Language, find_language, language_code, language_name, resolve_language
from warmup.errors import UserError

CODES = ["zh", "zh-CN", "zh_Hans", "zho_Hans", "zho", "chi", "cmn", "cmn_Hans", "ZH", "zh-SG"]
NAMES = ["Chinese", "chinese", "Mandarin", "中文", "Chinesisch", "Simplified Chinese", "Chinese (Simplified)"]
WORDED_BEFORE = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
    "qtz": "Toyish",
}


@pytest.mark.parametrize("name", [*CODES, *NAMES])
def test_every_name_of_chinese_is_one_language(name: str) -> None:
    assert find_language(name) == Language("zh", "Chinese", "Hans")


@pytest.mark.parametrize(
    ("text", "code", "name", "script"),
    [
        ("zho_Hant", "zh", "Chinese", "Hant"),
        ("zh-TW", "zh", "Chinese", "Hant"),
        ("zho_Latn", "zh", "Chinese", "Latn"),
        ("yue", "yue", "Cantonese", "Hant"),
        ("lzh", "lzh", "Literary Chinese", "Hans"),
        ("cjy", "cjy", "Jinyu Chinese", "Hans"),
        ("deu_Latn", "de", "German", "Latn"),
        ("Deutsch", "de", "German", "Latn"),
        ("en_US", "en", "English", "Latn"),
        ("arb_Arab", "ar", "Arabic", "Arab"),
        ("swh_Latn", "sw", "Swahili", "Latn"),
        ("jpn_Jpan", "ja", "Japanese", "Jpan"),
        ("kor_Hang", "ko", "Korean", "Hang"),
        ("Farsi", "fa", "Persian", "Arab"),
        ("no", "no", "Norwegian", "Latn"),
        ("Lao", "lo", "Lao", "Laoo"),
        ("Toyish", "qtz", "Toyish", "Latn"),
        ("qtz", "qtz", "Toyish", "Latn"),
    ],
)
def test_codes_and_names_of_other_languages(text: str, code: str, name: str, script: str) -> None:
    assert resolve_language("task.target_language", text) == Language(code, name, script)
    assert (language_code(text), language_name(text)) == (code, name)


def test_the_languages_that_had_a_name_before_keep_it() -> None:
    """Models have been trained on these prompts."""
    assert {code: language_name(code) for code in WORDED_BEFORE} == WORDED_BEFORE
    assert [language_code(code) for code in WORDED_BEFORE] == list(WORDED_BEFORE)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("zn", "zh"),
        ("xx", "xh"),
        ("jp", "ja"),
        ("cz", "cs"),
        ("Chinesse", "Chinese"),
        ("germn", "German"),
        ("Klingonese", "Klingon"),
        ("english-french", "en"),
        ("english language", "en"),
        ("zho_Hanz", "zh"),
        ("en_US.UTF-8", "en"),
        ("mul", None),
        ("und", None),
        ("zxx", None),
        ("qaa", None),
        ("sla", None),
        ("!!", None),
        ("", None),
    ],
)
def test_what_is_no_language_is_refused_with_the_nearest(text: str, meant: str | None) -> None:
    assert find_language(text) is None
    with pytest.raises(UserError) as error:
        resolve_language("task.target_language", text)
    line = str(error.value)
    assert line.startswith(f"task.target_language is {text!r}; allowed: a language by its code or name")
    if meant:
        assert line.endswith(f"; did you mean '{meant}'?")
    assert language_name(text) == text  # an old checkpoint may have been trained on such a prompt


def test_languages_are_loaded_when_they_are_asked_for() -> None:
    code = "import sys; from warmup.config import checks; assert not {'langcodes', 'language_data'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
