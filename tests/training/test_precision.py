"""What a training computes in where nobody says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from warmup.run import Job
from warmup.runs.records import Environment


@pytest.mark.parametrize("begun", ["float32", "bfloat16"])
def test_a_run_goes_on_in_what_it_began_with(begun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose GPU has bfloat16, or not."""

    def precision(asked: str) -> str:
        config: Any = SimpleNamespace(device="cuda", trainer=SimpleNamespace(precision=asked))
        return Job(config, composed=config, folder=tmp_path).precision

    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        assert precision("auto") == ("bfloat16" if has else "float32")
        assert precision("float32") == "float32" and precision("bfloat16") == "bfloat16"
    Environment(precision=begun).write(tmp_path)
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        assert precision("auto") == begun and precision("float32") == "float32"
