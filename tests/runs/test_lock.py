"""One writer per folder: others are told who it is, and an owner that was killed holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from warmup.runs.lock import LOCK_FILE, FolderTaken, Watch, owner_of, writing

OWN = """
import sys, time
from pathlib import Path
from warmup.runs.lock import writing
with writing(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(100)
"""


def test_a_second_writer_is_told_who_the_first_is_until_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", OWN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "owned\n"
        with pytest.raises(FolderTaken, match=f"{tmp_path} is written by process {process.pid} on "), writing(tmp_path):
            pytest.fail("there were two writers")
        assert not Watch(tmp_path).is_free()
        owner = owner_of(tmp_path)
        assert owner is not None and owner.process == process.pid and owner.alive
    finally:
        process.kill()
        process.wait()
    assert Watch(tmp_path).is_free()
    with writing(tmp_path):
        assert owner_of(tmp_path).process == os.getpid()  # type: ignore[union-attr]
    assert not list(tmp_path.iterdir())


def test_an_owner_on_another_machine_that_is_silent_is_not_alive(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_FILE
    lock.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=a\nduration=60.0\n")
    owner = owner_of(tmp_path)
    assert owner is not None and owner.alive and str(owner) == "process 1 on elsewhere"
    with pytest.raises(FolderTaken, match="process 1 on elsewhere"), writing(tmp_path):
        pytest.fail("there were two writers")
    os.utime(lock, (0, 0))
    assert not owner_of(tmp_path).alive  # type: ignore[union-attr]


def test_a_file_that_is_no_lock_names_nobody(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("\x1b[31mhello")
    assert owner_of(tmp_path) is None
