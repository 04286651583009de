"""The placeholders of a wording template: which fields of a record it needs."""

from __future__ import annotations

import string
from collections.abc import Mapping

from warmup.errors import UserError, wrong_value

LANGUAGE_PLACEHOLDERS = ("source_language", "target_language")


def template_fields(template: str) -> list[str]:
    """The placeholders of a template, in order and each once.

    Raises:
        UserError: unbalanced braces, or a placeholder that is not a plain `{name}`.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"template {template!r}: {error}; write {{name}} for a field, {{{{ for a brace") from error
    names: list[str] = []
    for _, name, specification, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or specification or conversion:
            raise UserError(f"template {template!r}: only plain placeholders such as {{source}} are allowed")
        if name not in names:
            names.append(name)
    return names


def with_languages(template: str, names: Mapping[str, str]) -> str:
    """The template with the languages filled in, as the model is fed it; `names` has one for each placeholder.

    Raises:
        UserError: as `template_fields`.
    """
    template_fields(template)
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(_literal(text))
        if name is not None:
            parts.append(_literal(names[name]) if name in names else f"{{{name}}}")
    return "".join(parts)


def _literal(text: str) -> str:
    """As a template has it."""
    return text.replace("{", "{{").replace("}", "}}")


def record_fields(key: str, template: str) -> list[str]:
    """The fields of a record that `template`, the value of `key`, is made of: its placeholders but the languages.

    Raises:
        UserError: a template that cannot be read, or one that says the same for every record.
    """
    try:
        found = template_fields(template)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    names = [name for name in found if name not in LANGUAGE_PLACEHOLDERS]
    if not names:
        raise wrong_value(key, template, "a text with a field of the records in it, such as '{source}'")
    return names


def check_option_template(template: str, answer: str) -> None:
    """The options of a question can only be scored if each is worded by its label alone.

    Raises:
        UserError: `template`, the value of task.target_template, holds another field of the record than `answer`.
    """
    if record_fields("task.target_template", template) != [answer]:
        reason = "since evaluation.answer_by=likelihood and evaluation.num_warmups above 1 score each answer"
        allowed = f"a text with {{{answer}}} as its only field, {reason}"
        raise wrong_value("task.target_template", template, allowed)
