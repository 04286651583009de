"""The options of a question: read from a record, worded for the prompt, and which of them is the answer."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warmup.config.task import FEWEST_OPTIONS, MOST_OPTIONS, OptionsConfig
from warmup.data.json_text import parse_json
from warmup.data.texts import text_of
from warmup.errors import UserError, wrong_value

OPTION_LETTERS = string.ascii_uppercase[:MOST_OPTIONS]


@dataclass(frozen=True)
class Options:
    """What one question lets choose from; all in one order.

    Attributes:
        labels: what prompts and answers call the options.
        texts: what they say; empty where the labels say it all.
        given_labels: what the data calls them; None where it does not.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...] = ()
    given_labels: tuple[str, ...] | None = None

    @classmethod
    def read(cls, value: Any, config: OptionsConfig, where: str) -> Options:
        """The options of a record.

        Args:
            value: a list of texts or numbers, `{label: [...], text: [...]}`, a list of `{label, text}`, or JSON of one
                of them (CSV has no lists).
            config: the task's; its labels set the number of options.
            where: where the record came from, with the field: every error begins with it.

        Raises:
            UserError: it is none of these, has another number of options than there are labels, or one without text.
        """
        if isinstance(value, str):
            value = parse_json(value, f"{where}: a JSON list of options")
        given_labels, texts = _labels_and_texts(value, where)
        count = len(config.labels) if config.labels else None
        if not FEWEST_OPTIONS <= len(texts) <= MOST_OPTIONS or count not in (None, len(texts)):
            allowed = count or f"{FEWEST_OPTIONS} to {MOST_OPTIONS}"
            raise UserError(f"{where} is a list of {len(texts)}; allowed: a list of {allowed} texts")
        labels = tuple(config.labels or OPTION_LETTERS[: len(texts)])
        worded = tuple(text_of(text, f"{where}: option {n}").strip() for n, text in zip(labels, texts, strict=True))
        for label, text in zip(labels, worded, strict=True):
            if not text:
                raise UserError(f"{where}: option {label} is empty")
        return cls(labels, worded, given_labels)

    def worded(self, template: str) -> str:
        """`A) ... B) ... C) ...`, each as `template` says."""
        pairs = zip(self.labels, self.texts, strict=True)
        return "".join(template.format(label=label, text=text) for label, text in pairs).strip()

    def label_of(self, answer: Any, where: str) -> str:
        """The label of the option that a record names as its answer.

        Options with labels of their own are named by these alone. Others are named by our labels, by their place from
        0, or, where there are two, by false and true; by labels alone where one looks like a place or a truth value.

        Raises:
            UserError: it names none of them; the line begins with `where`.
        """
        if self.given_labels is not None:
            names = dict(zip(self.given_labels, self.labels, strict=True))
            allowed = ", ".join(self.given_labels)
        else:
            places = [str(place) for place in range(len(self.labels))]
            truths = ["false", "true"] if len(self.labels) == 2 else []
            others = [names for names in (places, truths) if not set(names) & {label.lower() for label in self.labels}]
            names = {label: label for label in self.labels}
            for further in others:
                names |= dict(zip(further, self.labels, strict=False))
            allowed = _names_in_words(self.labels, others)
        text = text_of(answer, where).strip() if isinstance(answer, (str, int)) else ""
        if text not in names and text.lower() in ("false", "true"):  # as Python and spreadsheets write them
            text = text.lower()
        if text not in names:
            raise wrong_value(where, answer, allowed)
        return names[text]


def _names_in_words(labels: tuple[str, ...], others: list[list[str]]) -> str:
    lettered = labels == tuple(OPTION_LETTERS[: len(labels)])
    own = f"{labels[0]} to {labels[-1]}" if lettered else ", ".join(labels)
    spans = [" or ".join(names) if names[0] == "false" else f"{names[0]} to {names[-1]}" for names in others if names]
    return ", or ".join([*spans, own])


def _labels_and_texts(value: Any, where: str) -> tuple[tuple[str, ...] | None, list[Any]]:
    if isinstance(value, Mapping) and isinstance(value.get("text"), (list, tuple)):
        labels, texts = value.get("label"), list(value["text"])
    elif isinstance(value, (list, tuple)) and value and all(isinstance(one, Mapping) for one in value):
        labels, texts = [one.get("label") for one in value], [one.get("text") for one in value]
    elif isinstance(value, (list, tuple)):
        return None, list(value)
    else:
        kind = type(value).__name__
        raise UserError(f"{where} is a {kind}; allowed: a list of texts, or labels and texts as {{label, text}}")
    if not isinstance(labels, (list, tuple)) or len(labels) != len(texts):
        raise UserError(f"{where}: options need one label each; allowed: 'label' and 'text' of the same length")
    named = tuple(text_of(label, f"{where}: a label").strip() for label in labels)
    if len(set(named)) < len(named):
        raise UserError(f"{where}: two options have one label: {', '.join(named)}")
    return named, texts
