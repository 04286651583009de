"""Which values make another run of it."""

from __future__ import annotations

from typing import Any

import pytest

from warmup.config.neutral_keys import digest_of_numbers, first_difference

OLD: dict[str, Any] = {"seed": 1, "run": "all", "trainer": {"epochs": None, "batch_size": 8}}


@pytest.mark.parametrize("newer", [{"arguments": {"adam_beta1": None}}, {"arguments": {}}, {"attention": None}])
def test_a_key_that_a_later_version_brought_makes_no_other_run(newer: dict[str, Any]) -> None:
    now = {**OLD, "trainer": {**OLD["trainer"], **newer}}
    assert first_difference(OLD, now) is None and first_difference(now, OLD) is None
    assert digest_of_numbers(now) == digest_of_numbers(OLD)


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("trainer.arguments.adam_beta1", {**OLD, "trainer": {**OLD["trainer"], "arguments": {"adam_beta1": 0.5}}}),
        ("trainer.epochs", {**OLD, "trainer": {"epochs": 0, "batch_size": 8}}),
        ("trainer.batch_size", {**OLD, "trainer": {"epochs": None, "batch_size": 9}}),
        ("trainer.batch_size", {**OLD, "trainer": {}}),
    ],
)
def test_a_value_does_and_is_named(key: str, now: dict[str, Any]) -> None:
    assert first_difference(OLD, now) == key == first_difference(now, OLD)
    assert digest_of_numbers(now) != digest_of_numbers(OLD)
