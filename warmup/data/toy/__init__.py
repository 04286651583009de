"""Examples made up in code: small honest tasks that a tiny model learns within a minute, without a network."""

from __future__ import annotations

import random
from typing import Any

from warmup.data.toy import logic, summarization, translation
from warmup.errors import UserError

# A custom task has fields of its own; its default wording reads the translation's.
_RECORDS = {
    "translation": translation.sentence_pair,
    "summarization": summarization.news_report,
    "logiqa": logic.syllogism,
    "custom": translation.sentence_pair,
}
# Every toy language holds several times as many texts, so drawing without repetition stays quick.
LARGEST = 1_200_000


def generate(task_name: str, size: int, seed: int) -> list[dict[str, Any]]:
    """`size` records in the task's own fields, no two with the same text; a shorter list is a prefix of a longer.

    Raises:
        UserError: the toy language is too small for `size`, or there is none for the task.
    """
    if task_name not in _RECORDS:
        raise UserError(
            f"data=toy makes up no examples for task={task_name}, only for {', '.join(_RECORDS)}; "
            "give your own data: data=local data.train=FILE"
        )
    if size > LARGEST:
        raise UserError(
            f"data=toy cannot make up {size} different examples; the largest size possible, "
            f"data.train_size + data.validation_size + data.test_size, is {LARGEST}"
        )
    rng = random.Random(f"{task_name} {seed}")
    make = _RECORDS[task_name]
    records: dict[tuple[str, ...], dict[str, Any]] = {}
    while len(records) < size:
        record = make(rng)
        records.setdefault(_source(record), record)
    return list(records.values())


def _source(record: dict[str, Any]) -> tuple[str, ...]:
    """The texts that the model reads: what must not appear twice."""
    return tuple(str(value) for field, value in record.items() if field not in ("target", "summary", "answer"))
