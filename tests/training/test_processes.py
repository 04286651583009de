"""Which parent is a launcher that may be killed when a process fails: none that only sounds like one."""

from __future__ import annotations

import pytest

from warmup.training.processes import _is_launcher


@pytest.mark.parametrize(
    ("line", "launcher"),
    [
        ("/venv/bin/python /venv/bin/torchrun --nproc-per-node=2 scripts/train.py", True),
        ("/venv/bin/python3.11 /venv/bin/accelerate launch scripts/train.py", True),
        ("python -u -m torch.distributed.run --standalone scripts/train.py", True),
        ("python -m accelerate.commands.launch scripts/train.py", True),
        ("torchrun scripts/train.py", True),
        ("bash run_accelerate.sh", False),
        ("bash -c torchrun scripts/train.py", False),
        ("vim accelerate.md", False),
        ("python -m pytest -k torchrun", False),
        ("python -m http.server torch.distributed.run", False),
        ("slurmstepd: [3.0]", False),
        ("", False),
    ],
)
def test_a_launcher_is_known_by_its_program(line: str, launcher: bool) -> None:
    words = ["bash", "-c", line[8:]] if line.startswith("bash -c") else line.split()
    assert _is_launcher(words) == launcher
