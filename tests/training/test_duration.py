"""A training that would go on for days says so, once, after its first steps."""

from __future__ import annotations

import logging

import pytest
from transformers import TrainerControl, TrainerState

from warmup.training import duration


@pytest.mark.parametrize(("steps", "days"), [(10**6, "12 days"), (1000, "")])
def test_a_long_training_is_announced(
    steps: int, days: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(float(second) for second in range(100))
    monkeypatch.setattr(duration.time, "monotonic", lambda: next(clock))
    callback = duration.SayDuration()
    with caplog.at_level(logging.WARNING):
        for step in range(3, 20):
            callback.on_step_end(None, TrainerState(global_step=step, max_steps=steps), TrainerControl())  # type: ignore[arg-type]
    assert [days in message for message in caplog.messages] == ([True] if days else [])
