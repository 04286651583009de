"""Large data on disk: the same examples as in memory, read once, and nothing silently stale, half or lost."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_load import CUSTOM, LOGIQA
from warmup.config.schema import LocalData, TaskConfig
from warmup.data import kept, load, stored
from warmup.data.examples import Example, Wording
from warmup.data.load import Splits, load_splits
from warmup.data.stored import StoredExamples
from warmup.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MANY = 100
# What another process does with the same data: it says how often it wrote, or why it could not.
PROGRAM = """
import logging, os, resource, sys, time
from tests.data.test_load import CUSTOM
from warmup.config.schema import LocalData
from warmup.data import stored
from warmup.data.load import load_splits
logging.basicConfig(level=logging.INFO, format="%(message)s")
stored.MOST_IN_MEMORY, write, writes = 5, stored._write, []
def slow(path, examples):
    writes.append(path)
    print("writing", flush=True)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    write(path, examples)
stored._write = slow
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    splits = load_splits(CUSTOM, LocalData(train=sys.argv[1]))
    print(len(writes), len(splits.train), sum(len(example.target) for example in splits.train))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where large data is kept; more than five examples are large."""
    monkeypatch.setattr(stored, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(stored, "ROWS", 7)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "warmup-generations"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Texts of which every fourth is there twice."""
    return write_table(tmp_path / "a.jsonl", [f"text {n % 80}" for n in range(MANY)])


def write_table(path: Path, sources: list[str]) -> Path:
    path.write_text("".join(json.dumps({"source": text, "target": f"{text} — ü\u2028"}) + "\n" for text in sources))
    return path


def in_memory(task: TaskConfig, data: LocalData) -> Splits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "MOST_IN_MEMORY", 10**6)
        patch.setenv("HF_DATASETS_CACHE", "/nowhere")
        found = load_splits(task, data)
    assert isinstance(found.train, list)
    return found


def assert_equal(found: Splits, expected: Splits) -> None:
    assert {name: list(split) for name, split in found.examples.items()} == expected.examples


def no_reading(*_: Any) -> Iterator[Any]:
    raise AssertionError("the file was read")


def entries(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


@pytest.mark.parametrize("limit", [None, 3, 60])
@pytest.mark.parametrize("fraction", [0.0, 0.005, 0.2])
def test_the_splits_are_those_in_memory(table: Path, tmp_path: Path, limit: int | None, fraction: float) -> None:
    beside = write_table(tmp_path / "b.jsonl", [f"other {n}" for n in range(9)])
    data = LocalData(train=str(table), test_fraction=fraction, validation_fraction=0.3, max_train_examples=limit)
    if not fraction:
        data.test = str(beside)
    found = load_splits(CUSTOM, data)
    assert isinstance(found.train, StoredExamples)
    assert_equal(found, in_memory(CUSTOM, data))


def test_options_and_what_may_be_cut_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [
        {"question": f"q{n}?", "options": ["a", "b", "c", "d"], "text": "long text " * n, "answer": n % 4}
        for n in range(20)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    data = LocalData(train=str(path))
    found = load_splits(LOGIQA, data)
    assert isinstance(found.train, StoredExamples)
    assert found.train[0].options == ("A", "B", "C", "D") and found.train[1].cuttable is not None
    assert_equal(found, in_memory(LOGIQA, data))


def test_rows_and_parts_are_those_of_a_list(table: Path) -> None:
    data = LocalData(train=str(table))
    found, expected = load_splits(CUSTOM, data).train, in_memory(CUSTOM, data).train
    for index in (0, 7, -1, len(expected) - 1):
        assert found[index] == expected[index]
    for part in (slice(3), slice(None), slice(5, -5), slice(None, None, -3), slice(1000)):
        assert list(found[part]) == expected[part]
    with pytest.raises(IndexError):
        found[len(expected)]
    parts = [found, found[:9], found[:8], found[1:9], found[::-1]]
    assert len({part.digest for part in parts if isinstance(part, StoredExamples)}) == len(parts)


def test_the_next_run_does_not_read_the_file(table: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = LocalData(train=str(table))
    expected = in_memory(CUSTOM, data)
    load_splits(CUSTOM, data)
    monkeypatch.setattr(load.local, "read_table", lambda _: no_reading())
    monkeypatch.setattr(Wording, "example", no_reading)
    assert_equal(load_splits(CUSTOM, data), expected)
    assert len(entries(root)) == 1
    table.touch()  # another time stamp is no other content
    assert_equal(load_splits(CUSTOM, data), expected)


def test_what_changed_is_read_anew(table: Path, root: Path) -> None:
    data = LocalData(train=str(table))
    load_splits(CUSTOM, data)
    table.write_text(table.read_text().replace("text 7 ", "text X "))  # as long as before
    os.utime(table, ns=(1, 1))
    for task in (CUSTOM, TaskConfig(name="custom", source_template="say {source}", target_template="{target}")):
        assert_equal(load_splits(task, data), in_memory(task, data))
    data.fields = {"source": "target"}
    assert_equal(load_splits(CUSTOM, data), in_memory(CUSTOM, data))
    assert len(entries(root)) == 4


def test_a_file_that_changes_while_it_is_read_is_refused(
    table: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = load.local.read_table

    def growing(path: str) -> Iterator[Any]:
        for number, row in enumerate(read(path)):
            if number == 50:
                with open(path, "a") as file:
                    file.write('{"source": "late", "target": "late"}\n')
            yield row

    monkeypatch.setattr(load.local, "read_table", growing)
    with pytest.raises(UserError, match=r"a\.jsonl changed while it was read"):
        load_splits(CUSTOM, LocalData(train=str(table)))
    assert entries(root) == set()


def test_an_error_in_a_late_line_names_it_and_leaves_nothing(table: Path, root: Path) -> None:
    with table.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 101: not JSON"):
        load_splits(CUSTOM, LocalData(train=str(table)))
    assert entries(root) == set()


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "no manifest"])
def test_damaged_files_are_noticed_and_made_anew(
    table: Path, root: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = LocalData(train=str(table))
    load_splits(CUSTOM, data)
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    file = folder / ("manifest.json" if harm == "no manifest" else stored.EXAMPLES_FILE)
    content = file.read_bytes()
    if harm == "flip":
        place = content.index(b"text 3")
        file.write_bytes(content[:place] + b"T" + content[place + 1 :])
    elif harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = load_splits(CUSTOM, data)
    assert len(caplog.messages) == 1 and "is damaged and is made anew" in caplog.text
    assert_equal(found, in_memory(CUSTOM, data))
    caplog.clear()
    assert_equal(load_splits(CUSTOM, data), in_memory(CUSTOM, data))
    assert caplog.messages == []


def test_what_a_killed_run_left_is_not_read(table: Path, root: Path) -> None:
    data = LocalData(train=str(table))
    load_splits(CUSTOM, data)
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    (folder / "manifest.json").unlink()
    folder.rename(root / f".{folder.name}{kept.UNFINISHED}")
    assert_equal(load_splits(CUSTOM, data), in_memory(CUSTOM, data))
    assert entries(root) == {folder.name}


def test_where_nothing_can_be_kept_the_run_goes_on(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(kept.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    kept._temporary_root.cache_clear()
    data = LocalData(train=str(table))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_equal(load_splits(CUSTOM, data), in_memory(CUSTOM, data))
    assert len(caplog.messages) == 1 and "only until this run ends; HF_DATASETS_CACHE=FOLDER" in caplog.text
    monkeypatch.setattr(kept.tempfile, "tempdir", str(tmp_path / "file"))
    kept._temporary_root.cache_clear()
    with pytest.raises(UserError, match="^cannot write to .*, nor to a temporary folder .*HF_DATASETS_CACHE=FOLDER"):
        load_splits(CUSTOM, data)


def start(table: Path, until: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`until`: what must be there before it writes."""
    command = [sys.executable, "-c", PROGRAM, str(table), str(until), *words]
    pipe, env = subprocess.PIPE, os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env)


def test_two_runs_at_once_write_once(table: Path, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    first = start(table, go_on)
    assert any(line == "writing\n" for line in first.stdout or [])
    second = start(table, go_on)
    assert any(line.startswith("another run is writing") for line in second.stdout or [])
    go_on.touch()
    ends = [process.communicate(timeout=60)[0].splitlines()[-1].split() for process in (first, second)]
    assert [end[0] for end in ends] == ["1", "0"] and ends[0][1:] == ends[1][1:]


def test_a_full_disk_is_one_line_and_leaves_nothing(table: Path, root: Path, tmp_path: Path) -> None:
    output, _ = start(table, table, "1000").communicate(timeout=60)  # bytes that a file may have
    last = output.splitlines()[-1]
    assert last.startswith(f"UserError cannot write {table} to {root}: File too large; HF_DATASETS_CACHE=FOLDER"), last
    assert entries(root) == set()


def test_a_temporary_place_is_gone_when_the_run_ends(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    process = start(table, table, HF_DATASETS_CACHE=str(tmp_path / "file"), TMPDIR=str(tmp_path / "elsewhere"))
    assert process.communicate(timeout=60)[0].splitlines()[-1].startswith("1 80 ")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_few_examples_are_in_memory_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "a.jsonl", [f"text {n}" for n in range(1000)])
    made, living, most = [0], set[int](), [0]
    begin = Example.__init__

    def counted(example: Example, *arguments: Any) -> None:
        begin(example, *arguments)
        number = made[0] = made[0] + 1
        living.add(number)
        weakref.finalize(example, living.discard, number)
        most[0] = max(most[0], len(living))

    monkeypatch.setattr(Example, "__init__", counted)
    splits = load_splits(CUSTOM, LocalData(train=str(path)))
    assert made[0] == 1000 and len(splits.train) == 800
    assert len([example.target for example in splits.train]) == 800
    assert made[0] == 1800 and most[0] <= 3 * stored.ROWS
