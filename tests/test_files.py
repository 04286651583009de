"""Results are written whole or not at all, and what stops them is named."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from warmup.errors import UserError, nearest, wrong_value
from warmup.files import check_writable, read_json, remove_unfinished, write_json, write_json_lines, write_text


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_a_writer_leaves_no_temporary_file(tmp_path: Path, monkeypatch, error: type[BaseException]) -> None:
    def stop(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(error):
        write_text(tmp_path / "metrics.json", "new")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_an_error_and_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*metrics.json: .*its folder is gone"):
        write_text(tmp_path / "run" / "metrics.json", "new")
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    host = socket.gethostname()
    left = [f".a.json.{host}-{os.getpid()}.unfinished", f".b.{host}-99999999.unfinished", ".c.elsewhere-1.unfinished"]
    kept = [f".a.json.{host}-1.unfinished", "a.unfinished", ".hidden", "metrics.json"]
    for name in [*left, *kept]:
        (tmp_path / name).write_text("")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    records = [{"source": "Männer 中文 \u2028 <b>", "warmup": None}, {"source": "zwei\nZeilen", "warmup": "x"}]
    write_json_lines(tmp_path / "p.jsonl", records)
    import json

    lines = (tmp_path / "p.jsonl").read_bytes().decode().split("\n")
    assert [json.loads(line) for line in lines if line] == records


def test_json_that_is_no_json_is_refused_both_ways(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "m.json", {"bleu": float("nan")})
    assert not (tmp_path / "m.json").exists()
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken.json is not JSON"):
        read_json(tmp_path / "broken.json")
    with pytest.raises(UserError, match="cannot read"):
        read_json(tmp_path / "missing.json")


def test_an_error_is_one_line_with_the_nearest_spelling() -> None:
    assert str(UserError("a\nb  c")) == "a b c"
    assert nearest("warmpu", ["warmup", "sft"]) == "; did you mean 'warmup'?"
    assert nearest("xyz", ["warmup", "sft"]) == ""
    assert str(wrong_value("method.num_samples", 0, "1 to 256")) == "method.num_samples is 0; allowed: 1 to 256"


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "figures.json")
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        check_writable(tmp_path / "file" / "figures.json")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_get_the_mode_that_the_user_gives_to_files(tmp_path: Path, mask: int, mode: int) -> None:
    program = "import sys, pathlib; from warmup.files import write_text; write_text(pathlib.Path(sys.argv[1]), 'text')"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.txt")], umask=mask, check=True)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode
