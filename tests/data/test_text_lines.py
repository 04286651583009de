"""What a line is, which files are text, and that any bytes whatever are read or refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_local import columns, write
from warmup.data.local import read_parallel, read_table, read_text
from warmup.errors import UserError
from warmup.metrics.prediction_files import read_scorable

# what Python's str.splitlines or its text files end a line at, and others do not
IN_A_LINE = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("inside", IN_A_LINE)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, inside: str, end: str) -> None:
    sources, targets = ["eins", f"zw{inside}ei", f"{inside}drei", "vier"], ["one", "two", "three", f"fo{inside}ur"]
    source = write(tmp_path / "a.de", end.join(sources) + end)
    target = write(tmp_path / "a.en", end.join(targets))  # without a line end at its end
    assert [line for line, _ in read_text(source)] == sources
    rows = list(read_parallel(source, target, "source", "target"))
    assert [tuple(record.values()) for record, _ in rows] == list(zip(sources, targets, strict=True))
    assert rows[2][1] == f"{source}, line 3"


def test_the_last_line_counts_and_an_empty_one_behind_its_end_does_not(tmp_path: Path) -> None:
    for number, (content, lines) in enumerate(
        [("", []), ("\ufeff", []), ("a", ["a"]), ("a\n", ["a"]), ("a\n\r\n", ["a", ""])]
    ):
        assert [line for line, _ in read_text(write(tmp_path / f"{number}.txt", content))] == lines
    assert [line for line, _ in read_text(write(tmp_path / "b", "\ufeffa\r\r\n\ufeffb\r"))] == ["a\r", "\ufeffb\r"]


@pytest.mark.parametrize("inside", IN_A_LINE)
def test_cells_keep_what_is_no_line_end(tmp_path: Path, inside: str) -> None:
    text = f"a{inside}b"
    rows = [[text, "x"], [f"{inside}c", f"d{inside}"], ["last", text]]
    for kind, between in (("csv", ","), ("tsv", "\t")):
        lines = [between.join(row) for row in [["source", "target"], *rows]]
        assert columns(write(tmp_path / f"a.{kind}", "\r\n".join(lines) + "\r\n")) == rows
    quoted = write(tmp_path / "quoted.csv", f'source,target\r\n"{text}\r\nc","d\n"\r\nx,y\r\n')
    assert list(read_table(quoted)) == [
        ({"source": f"{text}\r\nc", "target": "d\n"}, f"{quoted}, line 2"),
        ({"source": "x", "target": "y"}, f"{quoted}, line 5"),
    ]
    if inside > "\x1f":  # JSON has the others escaped only
        assert columns(write(tmp_path / "a.jsonl", json.dumps({"a": text}, ensure_ascii=False))) == [[text]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet"])
def test_a_gzip_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"source": ["eins", "zwei"], "target": ["one", "two"]})
    plain = {
        ".jsonl": frame.to_json(orient="records", lines=True).encode(),
        ".json": frame.to_json(orient="records").encode(),
        ".csv": frame.to_csv(index=False).encode(),
        ".tsv": frame.to_csv(index=False, sep="\t").encode(),
        ".parquet": frame.to_parquet(),
    }[Path(name).suffix]
    path = write(tmp_path / name, gzip.compress(plain))
    assert [record for record, _ in read_table(path)] == frame.to_dict("records")
    text = write(tmp_path / "a.de", gzip.compress(b"eins\n"))
    assert [line for line, _ in read_text(text)] == ["eins"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n".encode("utf-16"), "UTF-16"),
        ("a,b\n".encode("utf-16-be"), "line 1: a NUL byte; is it UTF-16"),
        ("a,b\n".encode("utf-32"), "UTF-32"),
        (b"PK\x03\x04rest", "a zip archive or an Excel workbook"),
        (lzma.compress(b"a,b\n"), "an xz file; unpack it"),
        (bz2.compress(b"a,b\n"), "a bzip2 file; unpack it"),
        (gzip.compress(gzip.compress(b"a,b\n")), "gzipped twice"),
    ],
    ids=["utf-16", "utf-16 without a mark", "utf-32", "zip", "xz", "bzip2", "gzip in gzip"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_what_is_no_utf_8_text_is_named(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=complaint) as caught:
        list(read_text(path) if name == "a.txt" else read_table(path))
    assert str(caught.value).startswith(path)


PIECES = [
    b"a",
    b"b,",
    b"\t",
    b'"',
    b"\n",
    b"\r",
    b"\r\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b'{"a": 1}',
    b"9" * 5000,
    b"1e999",
]
PIECES += [
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\x1f\x8b",
    b"PAR1",
    b"NaN",
    b"\\ud800",
    "\u2028\x85é".encode(),
    b" ",
    b"-",
]
ANY_BYTES = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.csv", "a.tsv", "a.parquet", "a.parquet.gz", "a.txt"])
@given(content=ANY_BYTES, zipped=st.booleans())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path, name: str, content: bytes, zipped: bool) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content)[: len(content) + 20] if zipped else content)
    text = name == "a.txt"
    with one_line_about(path):
        rows = list(read_text(str(path)) if text else read_table(str(path)))
        assert all(where.startswith(f"{path}, ") for _, where in rows)
    with one_line_about(path):
        list(read_parallel(str(path), str(path), "source", "target"))
    with one_line_about(path):
        read_scorable(str(path), str(path), None)


@contextmanager
def one_line_about(path: Path) -> Iterator[None]:
    """Lets a `UserError` pass that is one line and names the file."""
    try:
        yield
    except UserError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
