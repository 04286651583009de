"""Wording: from records to prompts and targets, and every record that must be refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from warmup.config.schema import OptionsConfig, TaskConfig
from warmup.config.templates import template_fields
from warmup.data.examples import Wording
from warmup.data.texts import EmptyText
from warmup.errors import UserError

TRANSLATION = Wording(
    "translation", "translate {source_language} to {target_language}: {source}", "{target}", "de", "en"
)
FOUR = OptionsConfig("options", "answer", ["A", "B", "C", "D"])
LOGIQA = Wording("logiqa", "question: {question} options: {options} context: {text}", "{answer}", options=FOUR)
QUESTION = {"text": "All a are b.", "question": "So?", "options": ["one", "two", "three", "four"], "answer": 2}


def error_of(wording: Wording, record: dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        wording.example(record, "f.jsonl, line 7", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("f.jsonl, line 7")
    return message


def test_the_prompt_is_worded_and_the_source_stays_raw() -> None:
    example = TRANSLATION.example({"source": " Hallo {du}\n", "target": "Hello", "id": 3}, "here")
    assert example.source == " Hallo {du}\n"
    assert example.prompt == "translate German to English: Hallo {du}"
    assert example.target == "Hello"


def test_the_source_of_several_fields_is_the_prompt() -> None:
    example = LOGIQA.example(QUESTION, "here")
    assert example.prompt == "question: So? options: A) one B) two C) three D) four context: All a are b."
    assert example.source == example.prompt
    assert example.target == "C"


@pytest.mark.parametrize(
    ("code", "name"),
    [("qtz", "Toyish"), ("zh", "Chinese"), ("zho_Hans", "Chinese"), ("xx-klingon", "xx-klingon")],
)
def test_languages_have_english_names(code: str, name: str) -> None:
    template = "translate {source_language} to {target_language}: {source}"
    wording = Wording("translation", template, "{target}", "de", code)
    assert wording.source_template == f"translate German to {name}: {{source}}", "as it is fed"
    assert wording.example({"source": "a", "target": "b"}, "here").prompt == f"translate German to {name}: a"


def test_without_references_the_target_is_none_and_its_fields_are_not_looked_at() -> None:
    assert TRANSLATION.example({"source": "Hallo"}, "here", with_target=False).target is None
    bad_answer = {**QUESTION, "answer": 9}
    assert LOGIQA.example(bad_answer, "here", with_target=False).target is None


def test_a_wording_survives_json_and_knows_its_fields() -> None:
    task = TaskConfig(
        name="logiqa", source_template=LOGIQA.source_template, target_template=LOGIQA.target_template, options=FOUR
    )
    wording = Wording.from_config(task)
    assert wording == LOGIQA
    assert wording.source_fields == ["question", "options", "text"]  # cached values must not get into the JSON
    assert TRANSLATION.source_fields == ["source"]
    assert TRANSLATION.target_fields == ["target"]


def test_template_fields_are_in_order_and_escaped_braces_are_text() -> None:
    assert template_fields("{b} {{x}} {a} {b}") == ["b", "a"]


@pytest.mark.parametrize("template", ["{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{}", "{0}", "{a", "a}", "{a b}"])
def test_only_plain_placeholders(template: str) -> None:
    with pytest.raises(UserError, match="template"):
        template_fields(template)


def test_a_missing_field_names_what_there_is_and_the_cure() -> None:
    message = error_of(TRANSLATION, {"source": "a", "targett": "b", "id": 3, "none": None})
    assert "no field 'target'" in message
    assert "only source, targett, id;" in message
    assert "data.fields='{target: COLUMN}'" in message
    assert "did you mean 'targett'?" in message


def test_null_and_nan_are_missing() -> None:
    assert "field 'target' is null" in error_of(TRANSLATION, {"source": "a", "target": None})
    assert "field 'target' is NaN" in error_of(TRANSLATION, {"source": "a", "target": float("nan")})


def test_numbers_become_text_and_structures_are_refused() -> None:
    assert TRANSLATION.example({"source": 3, "target": 1.5}, "here").target == "1.5"
    assert "field 'source' is a list, not text" in error_of(TRANSLATION, {"source": ["a"], "target": "b"})
    assert "field 'source' is a dict, not text" in error_of(TRANSLATION, {"source": {"a": 1}, "target": "b"})


@pytest.mark.parametrize(("number", "name"), [(float("inf"), "Infinity"), (float("-inf"), "-Infinity")])
def test_a_number_that_json_does_not_have_is_refused(number: float, name: str) -> None:
    assert f"field 'source' is {name}, not text" in error_of(TRANSLATION, {"source": number, "target": "b"})


def test_half_a_character_is_refused_since_no_output_file_could_hold_it() -> None:
    assert "surrogate" in error_of(TRANSLATION, {"source": json.loads('"x\\ud83d"'), "target": "b"})


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
def test_empty_texts(blank: str) -> None:
    assert "the target is empty" in error_of(TRANSLATION, {"source": "a", "target": blank})
    assert "the source is empty" in error_of(TRANSLATION, {"source": blank, "target": "b"})
    assert "the source is empty" in error_of(LOGIQA, {**QUESTION, "text": blank, "question": blank})
    with pytest.raises(EmptyText):
        TRANSLATION.example({"source": "a", "target": blank}, "here")


def test_one_of_several_source_fields_may_be_empty() -> None:
    assert LOGIQA.example({**QUESTION, "question": ""}, "here").prompt.startswith("question: options:") is False
    assert "context: All a are b." in LOGIQA.example({**QUESTION, "question": ""}, "here").prompt


@pytest.mark.parametrize(("answer", "letter"), [(0, "A"), (3, "D"), ("1", "B"), ("C", "C"), (" D ", "D")])
def test_answers(answer: Any, letter: str) -> None:
    assert LOGIQA.example({**QUESTION, "answer": answer}, "here").target == letter


@pytest.mark.parametrize("answer", [5, -1, 4, "4", "E", "two", "", True, 1.5, [1]])
def test_an_answer_out_of_range(answer: Any) -> None:
    message = error_of(LOGIQA, {**QUESTION, "answer": answer})
    assert f"f.jsonl, line 7, answer is {answer!r}; allowed: 0 to 3" in message


def test_options_may_be_json_because_csv_has_no_lists() -> None:
    as_text = {**QUESTION, "options": json.dumps(QUESTION["options"])}
    assert LOGIQA.example(as_text, "here") == LOGIQA.example(QUESTION, "here")


@pytest.mark.parametrize(
    ("options", "worded"),
    [
        ([1, 2.5, -3, 1e30], "A) 1 B) 2.5 C) -3 D) 1e+30"),
        (["a", "b", "c", 4], "A) a B) b C) c D) 4"),
        ("[1, 2, 3, 4]", "A) 1 B) 2 C) 3 D) 4"),
        (f"[1, 2, 3, 1{'0' * 5000}]", f"A) 1 B) 2 C) 3 D) 1{'0' * 5000}"),
        ('["a", "b", "none", 1e999]', "A) a B) b C) none D) 1e999"),
    ],
)
def test_options_that_are_numbers_are_worded_as_json_writes_them(options: Any, worded: str) -> None:
    assert worded in LOGIQA.example({**QUESTION, "options": options}, "here").prompt


@pytest.mark.parametrize(
    "options",
    [
        ["a", "b", "c"],
        ["a", "b", "c", " "],
        ["a", "b", "c", None],
        ["a", "b", "c", ["d"]],
        ["a", "b", "c", float("nan")],
        ["a", "b", "c", "\ud83d"],
        "[1, 2, 3, NaN]",
        "a, b",
        '"abc"',
        "[" * 100_000,
        {},
        4,
    ],
)
def test_options_that_are_not_four_texts(options: Any) -> None:
    assert "option" in error_of(LOGIQA, {**QUESTION, "options": options})
