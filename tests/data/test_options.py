"""Options of a question: any number of them, under whatever labels, and which of them a record names."""

from __future__ import annotations

from typing import Any

import pytest

from warmup.config.schema import OptionsConfig
from warmup.data.examples import Wording
from warmup.errors import UserError

FREE = Wording("commonsense_qa", "{question} {choices}", "{key}", options=OptionsConfig("choices", "key"))
YES_NO = Wording("yes_no", "{question}", "{answer}", options=OptionsConfig(None, "answer", ["no", "yes"]))


def worded(choices: Any, key: Any, wording: Wording = FREE) -> tuple[str, str | None]:
    example = wording.example({"question": "q", "choices": choices, "key": key}, "f, line 7")
    return example.prompt, example.target


def error_of(wording: Wording, **record: Any) -> str:
    with pytest.raises(UserError) as caught:
        wording.example({"question": "q", **record}, "f, line 7")
    assert str(caught.value).startswith("f, line 7") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("count", [2, 5, 26])
def test_each_question_has_as_many_letters_as_options(count: int) -> None:
    texts = [f"text {n}" for n in range(count)]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[count - 1]
    for key in (count - 1, str(count - 1), last):
        prompt, target = worded(texts, key)
        assert prompt.endswith(f"{last}) text {count - 1}") and target == last
    example = FREE.example({"question": "q", "choices": texts, "key": 0}, "here")
    assert example.options is not None and len(example.options) == count


@pytest.mark.parametrize("count", [0, 1, 27])
def test_more_options_than_letters_or_fewer_than_two_are_refused(count: int) -> None:
    message = error_of(FREE, choices=["text"] * count, key=0)
    assert f"choices is a list of {count}; allowed: a list of 2 to 26 texts" in message


@pytest.mark.parametrize(
    "choices",
    [
        {"label": ["A", "B", "C"], "text": ["x", "y", "z"]},
        [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}, {"label": "C", "text": "z"}],
        '{"label": ["A", "B", "C"], "text": ["x", "y", "z"]}',
    ],
)
def test_labels_and_texts_in_each_form(choices: Any) -> None:
    assert worded(choices, "C") == ("q A) x B) y C) z", "C")


def test_the_datas_own_labels_alone_name_the_answer() -> None:
    choices = {"label": ["1", "2", "3"], "text": ["x", "y", "z"]}  # as a part of ARC has them
    assert worded(choices, "1") == ("q A) x B) y C) z", "A")  # the first, not the one at place 1
    assert worded(choices, 3)[1] == "C"
    assert "f, line 7, key is '0'; allowed: 1, 2, 3" in error_of(FREE, choices=choices, key="0")
    assert "key is ''" in error_of(FREE, choices=choices, key="")  # a split whose answers are not public


@pytest.mark.parametrize(
    ("choices", "part"),
    [
        ({"label": ["A"], "text": ["x", "y"]}, "one label each"),
        ({"text": ["x", "y"]}, "one label each"),
        ({"label": ["A", "A"], "text": ["x", "y"]}, "two options have one label: A, A"),
        ({"label": ["A", "B"], "text": ["x", " "]}, "option B is empty"),
        ({"options": ["x", "y"]}, "is a dict"),
    ],
)
def test_broken_labels_and_texts(choices: Any, part: str) -> None:
    assert part in error_of(FREE, choices=choices, key="A")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (True, "yes"),
        (False, "no"),
        ("true", "yes"),
        ("False", "no"),
        ("TRUE", "yes"),
        (1, "yes"),
        ("0", "no"),
        ("no", "no"),
    ],
)
def test_the_second_of_two_labels_is_true(answer: Any, label: str) -> None:
    example = YES_NO.example({"question": "q", "answer": answer}, "here")
    assert (example.target, example.options) == (label, ("no", "yes"))


@pytest.mark.parametrize("answer", ["Yes", "maybe", 2, -1, 0.0, None, ""])
def test_what_is_neither_label_nor_place_nor_truth_value(answer: Any) -> None:
    assert "answer" in error_of(YES_NO, answer=answer)


def test_labels_that_look_like_places_or_truth_values_are_never_taken_for_them() -> None:
    numbered = Wording("any", "{question}", "{answer}", options=OptionsConfig(None, "answer", ["1", "2"]))
    assert numbered.example({"question": "q", "answer": 1}, "here").target == "1"
    assert "answer is 0" in error_of(numbered, answer=0)
    reversed_ = Wording("any", "{question}", "{answer}", options=OptionsConfig(None, "answer", ["True", "False"]))
    assert reversed_.example({"question": "q", "answer": "True"}, "here").target == "True"
    assert "answer is 'true'" in error_of(reversed_, answer="true")


def test_an_option_is_shown_and_answered_as_the_task_says() -> None:
    """As lm-evaluation-harness words LogiQA: a line for each option, and the answer is what the right one says."""
    options = OptionsConfig("options", "answer", ["A", "B"], "{label}. {text}\n", "text")
    template = "Passage: {text}\nQuestion: {question}\nChoices:\n{options}\nAnswer:"
    wording = Wording("logiqa", template, "{answer}", options=options)
    record = {"text": "  It rains. ", "question": "why", "options": ["clouds", "sun"], "answer": 1}
    example = wording.example(record, "here")
    assert example.prompt == "Passage: It rains.\nQuestion: why\nChoices:\nA. clouds\nB. sun\nAnswer:"
    assert example.target == "sun" and example.options == ("clouds", "sun")
    assert example.cuttable and example.prompt[slice(*example.cuttable)] == "It rains."
    assert wording.option_targets() is None  # they are each question's own


def test_the_options_are_never_what_is_cut() -> None:
    record = {"question": "q", "choices": ["a very long first text " * 9, "b"], "key": 0}
    example = FREE.example(record, "here")
    assert example.cuttable and example.prompt[slice(*example.cuttable)] == "q"
