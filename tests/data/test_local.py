"""The user's files: every kind that is read, and every broken one that must be named with its line."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from warmup.data.local import read_parallel, read_table, read_text
from warmup.errors import UserError

RECORDS = [{"source": "eins", "target": "one"}, {"source": "zwei, „drei“", "target": 'two "three"'}]
JSON_LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def write(path: Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def columns(path: str) -> list[list[Any]]:
    """The values of each record, which all name the same fields."""
    return [list(record.values()) for record, _ in read_table(path)]


def error_of(path: str) -> str:
    with pytest.raises(UserError) as caught:
        list(read_table(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a.jsonl.gz", "A.JSONL", "we[1]rd*.jsonl"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, JSON_LINES)
    assert list(read_table(path)) == [(RECORDS[0], f"{path}, line 1"), (RECORDS[1], f"{path}, line 2")]


def test_blank_lines_of_json_are_skipped_and_still_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '\ufeff{"a": 1}\r\n\n   \n{"b": "x\u2028y"}')
    assert list(read_table(path)) == [({"a": 1}, f"{path}, line 1"), ({"b": "x\u2028y"}, f"{path}, line 4")]


def test_json_values_keep_their_types_and_absent_fields_stay_absent(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"answer": 1},
        {"answer": "B", "options": ["a", "b"]},
        {"text": None, "n": {"x": 1.5}},
    ]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert [record for record, _ in read_table(path)] == records


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_that_is_one_json_array(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "a.json", "\n" + json.dumps(RECORDS, indent=indent))
    assert list(read_table(path)) == [(RECORDS[0], f"{path}, record 1"), (RECORDS[1], f"{path}, record 2")]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_values_stay_text(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, 'source,target\n007,NA\n"a, ""b""\nc",\n\n1.0,true\n')
    assert list(read_table(path)) == [
        ({"source": "007", "target": "NA"}, f"{path}, line 2"),
        ({"source": 'a, "b"\nc', "target": ""}, f"{path}, line 3"),
        ({"source": "1.0", "target": "true"}, f"{path}, line 6"),
    ]


def test_tsv_takes_quotes_for_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'source\ttarget\n"Ja", sagte er.\t"Yes\n')
    assert [record for record, _ in read_table(path)] == [{"source": '"Ja", sagte er.', "target": '"Yes'}]


def test_parquet_with_nested_columns(tmp_path: Path) -> None:
    records = [{"translation": {"de": "eins", "en": "one"}, "options": ["a", "b"], "n": 3}] * 2
    path = str(tmp_path / "a.parquet")
    pd.DataFrame(records).to_parquet(path)
    assert list(read_table(path)) == [(records[0], f"{path}, row 1"), (records[1], f"{path}, row 2")]
    zipped = write(tmp_path / "a.parquet.gz", Path(path).read_bytes())
    assert [record for record, _ in read_table(zipped)] == records


def test_parallel_files(tmp_path: Path) -> None:
    source, target = write(tmp_path / "train.de.gz", "eins\nzwei\u2028x\n"), write(tmp_path / "train.en", "one\r\ntwo")
    assert list(read_parallel(source, target, "document", "summary")) == [
        ({"document": "eins", "summary": "one"}, f"{source}, line 1"),
        ({"document": "zwei\u2028x", "summary": "two"}, f"{source}, line 2"),
    ]


def test_a_home_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", "eins\n")
    assert [line for line, _ in read_text("~/a.txt")] == ["eins"]


def test_large_files_are_read_lazily_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n' * 5000 + "broken\n")
    assert len(list(itertools.islice(read_table(path), 1500))) == 1500
    with pytest.raises(UserError, match="line 5001"):
        list(read_table(path))
    assert os.listdir(tmp_path) == ["a.jsonl"]
    assert "".join(capfd.readouterr()) == ""


def test_numbers_of_json_that_python_does_not_read_are_the_text_that_stands_there(tmp_path: Path) -> None:
    long = "-" + "7" * 5000
    path = write(tmp_path / "a.jsonl", f'{{"source": {long}, "target": 1e999}}\n')
    assert list(read_table(path)) == [({"source": long, "target": "1e999"}, f"{path}, line 1")]
    assert columns(write(tmp_path / "a.json", f'[{{"a": [{long}]}}]')) == [[[long]]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "not JSON"),
        ('{"a": 1} {"a": 2}', "not JSON"),
        ("[1, 2]", "not a JSON object but a list"),
        ('"text"', "not a JSON object but a str"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        ('{"b": [{"\\ud800": 1, "\\ud800": 3}]}', "the key '\\ud800' is there twice"),
        ('{"a": "b\rc"}', "not JSON: Invalid control character"),
        ('{"a": 1}\r{"a": 2}', "not JSON: Extra data"),
        ("[" * 100_000, "not a record: nested too deeply"),
    ],
)
def test_a_json_line_that_is_no_record(tmp_path: Path, line: str, complaint: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"a": 1}}\n\n{line}\n{{"a": 2}}\n')
    message = error_of(path)
    assert message.startswith(f"{path}, line 3: {complaint}")


def test_a_broken_json_array(tmp_path: Path) -> None:
    assert "a.json, line 3: not JSON" in error_of(write(tmp_path / "a.json", '[{"a": 1},\n{"a": 2},\n{"a": }]'))
    assert "a.json, record 2: not a JSON object but a int" in error_of(write(tmp_path / "a.json", '[{"a": 1}, 2]'))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 values, but the header names 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 values, but the header names 2 columns"),
        ('a,b\n1,"2\n', "line 2: not a table of values: unexpected end of data"),
        ("a,a\n1,2\n", "line 1: the header names a column twice"),
        ("a,b,,\n1,2,,\n1,2,3,\n", "line 3: the header has no name for column 3, which holds '3'"),
        ("a,,b\n1,2,3\n", "line 2: the header has no name for column 2, which holds '2'"),
        ("a,b,,\n1\n", "line 2: 1 values, but the header names 2 columns"),
        ("a,b,,\n1,2,,,\n", "line 2: 5 values, but the header names 2 columns"),
    ],
)
def test_a_broken_csv(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaint in error_of(write(tmp_path / "a.csv", text))


def test_long_cells_are_read(tmp_path: Path) -> None:
    long = "x" * 200_000
    assert columns(write(tmp_path / "a.csv", f'a,b\n{long},"{long}"\n')) == [[long, long]]
    assert columns(write(tmp_path / "a.tsv", f"a\tb\n{long}\ty\n")) == [[long, "y"]]


@pytest.mark.parametrize(("kind", "between"), [("csv", ","), ("tsv", "\t")])
def test_empty_columns_and_rows_that_excel_writes(
    tmp_path: Path, kind: str, between: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["source,target,, ", "a,b,,", "c,d", ",,,", "", "e,f, ,", ",,,", ",,"]
    path = write(tmp_path / f"a.{kind}", "\r\n".join(lines).replace(",", between) + "\r\n")
    rows = list(read_table(path))
    assert [record for record, _ in rows][:2] == [{"source": "a", "target": "b"}, {"source": "c", "target": "d"}]
    assert [list(record.values()) for record, _ in rows[2:]] == [["", ""], ["e", "f"]]  # an empty row in between counts
    assert [where for _, where in rows] == [f"{path}, line {number}" for number in (2, 3, 4, 6)]
    assert "the last 2 rows have no value" in caplog.text


def test_the_row_names_of_a_data_frame_are_no_field(tmp_path: Path) -> None:
    frame = pd.DataFrame({"source": ["a", "b"], "target": ["c", "d"]})
    frame.to_csv(tmp_path / "a.csv")
    assert [record for record, _ in read_table(str(tmp_path / "a.csv"))] == frame.to_dict("records")


@pytest.mark.parametrize(("kind", "empty"), [("csv", '""'), ("csv", ""), ("tsv", "")])
def test_in_a_table_of_one_column_an_empty_line_is_an_empty_value(tmp_path: Path, kind: str, empty: str) -> None:
    path = write(tmp_path / f"a.{kind}", f"prediction\na\n{empty}\nb\n{empty}\n")
    assert columns(path) == [["a"], [""], ["b"], [""]]


def test_parquet_with_empty_row_groups(tmp_path: Path) -> None:
    full = pa.table({"source": ["a", "b"], "target": ["c", "d"]})
    with parquet.ParquetWriter(tmp_path / "a.parquet", full.schema) as writer:
        for part in (full.slice(0, 0), full.slice(0, 1), full.slice(0, 0), full.slice(1)):
            writer.write_table(part)
    assert parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).num_rows == 0
    assert columns(str(tmp_path / "a.parquet")) == [["a", "c"], ["b", "d"]]
    parquet.write_table(full.slice(0, 0), tmp_path / "none.parquet")
    assert columns(str(tmp_path / "none.parquet")) == []
    parquet.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "twice.parquet")
    assert "a column is there twice: a, a" in error_of(str(tmp_path / "twice.parquet"))


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", JSON_LINES)
    assert error_of(str(tmp_path / "trian.jsonl")).endswith(f"an existing file; did you mean '{tmp_path}/train.jsonl'?")
    assert "an existing file" in error_of(str(tmp_path / "nowhere" / "train.jsonl"))


def test_a_folder_and_an_unknown_kind(tmp_path: Path) -> None:
    assert "this is a folder" in error_of(str(tmp_path))
    message = error_of(write(tmp_path / "a.xlsx", "x"))
    assert all(kind in message for kind in (".jsonl", ".csv", ".tsv", ".parquet", ".gz", "data.train_source"))


def test_broken_gzip_and_parquet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    assert "a.jsonl.gz: not a whole gzip file" in error_of(str(tmp_path / "a.jsonl.gz"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(JSON_LINES.encode() * 100)[:-12])
    assert "b.jsonl.gz: not a whole gzip file" in error_of(str(tmp_path / "b.jsonl.gz"))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(JSON_LINES.encode())[:10] + b"\xff" * 20)
    assert "d.jsonl.gz: not a whole gzip file" in error_of(str(tmp_path / "d.jsonl.gz"))
    assert "cannot read" in error_of(write(tmp_path / "c.parquet", "not parquet"))
    assert "".join(capfd.readouterr()) == ""  # the library's own messages do not reach the terminal


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.tsv"])
def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b'{"a": 1}\n\n{"a": "Gr\xfc\xdfe"}\n')
    assert error_of(path) == f"{path}, line 3: not UTF-8; convert the file first"


def test_parallel_files_of_different_lengths(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.de", "eins\nzwei\n"), write(tmp_path / "a.en", "one\ntwo\nthree\n")
    with pytest.raises(UserError, match="a.de has 2 lines, .*a.en has 3"):
        read_parallel(source, target, "source", "target")


def test_a_blank_side_of_parallel_files(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.de", "eins\nzwei\n"), write(tmp_path / "a.en", "one\n  \n")
    with pytest.raises(UserError, match="a.en, line 2: the line is blank"):
        list(read_parallel(source, target, "source", "target"))


def test_a_table_is_not_a_parallel_file(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.jsonl", JSON_LINES), write(tmp_path / "a.en", "one\n")
    with pytest.raises(UserError, match="is a table"):
        read_parallel(source, target, "source", "target")
