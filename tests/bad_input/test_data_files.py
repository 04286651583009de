"""Files of every format that are not what they seem: tables, parallel text, predictions and their references."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.bad_input.conftest import Refused

DEEP = "[" * 100_000
GOOD = '{"document": "a long text", "summary": "a text"}\n'
SUMMARIES = ("task=summarization", "data=local", "method=sft")
QUESTIONS = ("task=logiqa", "data=local", "method=sft")

# The name of a file, what is in it, and a part of the line that refuses it as data.train.
TABLES: list[tuple[str, bytes | str, str]] = [
    ("a.jsonl", "", "no examples"),
    ("a.jsonl", "\n\n\n", "no examples"),
    ("a.jsonl", "{", "line 1"),
    ("a.jsonl", GOOD + "{", "line 2"),
    ("a.jsonl", GOOD + "[]\n", "not a JSON object but a list"),
    ("a.jsonl", "5\n", "not a JSON object but a int"),
    ("a.jsonl", "null\n", "not a JSON object"),
    ("a.jsonl", "[1, 2]", "record 1"),
    ("a.jsonl", "[" + GOOD, "not JSON"),
    ("a.jsonl", DEEP, "nested too deeply"),
    ("a.jsonl", '{"document": ' + DEEP, "nested too deeply"),
    ("a.jsonl", '{"document": "a"}\n', "no field 'summary'"),
    ("a.jsonl", '{"document": "a", "summary": null}\n', "field 'summary' is null"),
    ("a.jsonl", '{"document": "a", "summary": []}\n', "a list, not text"),
    ("a.jsonl", '{"document": "a", "summary": {}}\n', "a dict, not text"),
    ("a.jsonl", '{"document": "a", "summary": " "}\n', "the target is empty"),
    ("a.jsonl", '{"document": "", "summary": "b"}\n', "the source is empty"),
    ("a.jsonl", '{"document": NaN, "summary": "b"}\n', "document"),
    ("a.jsonl", '{"document": "\\ud800", "summary": "b"}\n', "half a character"),
    ("a.jsonl", '{"document": "a", "document": "b", "summary": "c"}\n', "there twice"),
    ("a.jsonl", '{"Document": "a", "Summary": "b"}\n', "no field 'document'"),
    ("a.jsonl", b"\xff\xfe{\x00}\x00", "UTF-16"),
    ("a.jsonl", b'{"document": "\xe4"}\n', "not UTF-8"),
    ("a.jsonl", b'{"document": "a\x00"}\n', "NUL"),
    ("a.jsonl", gzip.compress(gzip.compress(GOOD.encode())), "gzipped twice"),
    ("a.jsonl", gzip.compress(GOOD.encode() * 99)[:-20], "not a whole gzip file"),
    ("a.jsonl.gz", GOOD, "not a whole gzip file"),
    ("a.jsonl", b"BZh91AY&SY" + b"\x00" * 20, "bzip2"),
    ("a.jsonl", b"\xfd7zXZ\x00" + b"\x00" * 20, "xz"),
    ("a.jsonl", b"\x28\xb5\x2f\xfd" + b"\x00" * 20, "zstandard"),
    ("a.json", '{"data": [1, 2]}', "no field"),
    ("a.json", "[]", "no examples"),
    ("a.json", "[{}, 5]", "record"),
    ("a.csv", "", "no examples"),
    ("a.csv", "document,summary\n", "no examples"),
    ("a.csv", "document,document\na,b\n", "a column twice"),
    ("a.csv", "document,summary\na\n", "1 values, but the header names 2 columns"),
    ("a.csv", "document,summary\na,b,c\n", "3 values"),
    ("a.csv", 'document,summary\n"a,b\n', "not a table of values"),
    ("a.csv", 'document,summary\n"a"b,c\n', "not a table of values"),
    ("a.csv", "document;summary\na;b\n", "no field 'document'"),
    ("a.csv", b"PK\x03\x04" + b"\x00" * 30, "Excel workbook"),
    ("a.csv", b"\xd0\xcf\x11\xe0" + b"\x00" * 30, "Excel"),
    ("a.tsv", "document,summary\na,b\n", "no field 'document'"),
    ("a.tsv", "document\tsummary\na\n", "1 values"),
    ("a.parquet", "", "cannot read"),
    ("a.parquet", "document,summary\na,b\n", "cannot read"),
    ("a.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", "cannot read"),
    ("a.txt", "document\n", "unknown kind of file"),
    ("a.xlsx", "document\n", "unknown kind of file"),
    ("a.pkl", b"\x80\x04N.", "unknown kind of file"),
    ("a", GOOD, "unknown kind of file"),
]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "part"), TABLES, ids=[f"{name}-{part[:30]}-{n}" for n, (name, _, part) in enumerate(TABLES)]
)
def test_a_broken_table_is_named_with_its_line(
    name: str, content: bytes | str, part: str, workplace: Path, refused: Refused
) -> None:
    write(workplace / name, content)
    line = refused(*SUMMARIES, f"data.train={name}")
    assert part in line and name.partition(".")[0] in line


def test_columns_that_repeat_or_hold_no_text(workplace: Path, refused: Refused) -> None:
    twice = pyarrow.table([["a"], ["b"]], names=["document", "document"])
    parquet.write_table(twice, workplace / "twice.parquet")
    assert "a column is there twice" in refused(*SUMMARIES, "data.train=twice.parquet")
    parquet.write_table(pyarrow.table({"document": [b"a"], "summary": [[1]]}), workplace / "bytes.parquet")
    assert "not text" in refused(*SUMMARIES, "data.train=bytes.parquet")
    with zipfile.ZipFile(workplace / "a.jsonl", "w") as archive:
        archive.writestr("a.jsonl", GOOD)
    assert "zip archive" in refused(*SUMMARIES, "data.train=a.jsonl")


def test_too_few_examples_for_three_splits(workplace: Path, refused: Refused) -> None:
    write(workplace / "a.jsonl", GOOD)
    assert "split is empty" in refused(*SUMMARIES, "data.train=a.jsonl")
    assert "no such field" in refused(*SUMMARIES, "data.train=a.jsonl", "data.fields={text: document}")
    assert "no column 'text'" in refused(*SUMMARIES, "data.train=a.jsonl", "data.fields={document: text}")
    assert "a mapping" in refused(*SUMMARIES, "data.train=a.jsonl", "data.fields=5")


OPTIONS: list[tuple[object, object, str]] = [
    (DEEP, "A", "nested too deeply"),
    ("[" * 900 + "]" * 900, "A", "options"),
    ("[" * 40_000 + "]" * 40_000, "A", "nested too deeply"),
    ("nothing", "A", "not JSON"),
    ("[1, 2", "A", "not JSON"),
    ("5", "A", "options is a int"),
    (5, "A", "options is a int"),
    (None, "A", "options"),
    ([], "A", "a list of 0"),
    (["a", "b"], "A", "a list of 2"),
    (["a", "b", "c", ""], "A", "option D is empty"),
    (["a", "b", "c", None], "A", "option D"),
    (["a", "b", "c", ["d"]], "A", "option D"),
    ([{"label": "A"}] * 4, "A", "option"),
    ({"label": ["A"], "text": ["a", "b", "c", "d"]}, "A", "one label each"),
    ({"label": ["A", "A", "B", "C"], "text": ["a", "b", "c", "d"]}, "A", "two options have one label"),
    (["a", "b", "c", "d"], "E", "answer is 'E'"),
    (["a", "b", "c", "d"], 4, "answer is 4"),
    (["a", "b", "c", "d"], None, "answer"),
    (["a", "b", "c", "d"], ["A"], "answer is ['A']"),
    (["a", "b", "c", "d"], 1.5, "answer is 1.5"),
]


@pytest.mark.parametrize(("options", "answer", "part"), OPTIONS, ids=range(len(OPTIONS)))
def test_options_that_are_none(options: object, answer: object, part: str, workplace: Path, refused: Refused) -> None:
    record = {"text": "a", "question": "b", "options": options, "answer": answer}
    write(workplace / "a.jsonl", json.dumps(record) + "\n")
    line = refused(*QUESTIONS, "data.train=a.jsonl")
    assert part in line and "line 1" in line


@pytest.mark.parametrize(
    ("source", "target", "part"),
    [
        ("a\nb\n", "a\n", "differ in length"),
        ("a\n\n", "a\nb\n", "the line is blank"),
        (b"\xff\n", "a\n", "not UTF-8"),
        ("", "", "no examples"),
        (b"\x1f\x8bno", "a\n", "gzip"),
    ],
)
def test_parallel_files_that_are_not(
    source: bytes | str, target: str, part: str, workplace: Path, refused: Refused
) -> None:
    write(workplace / "a.de", source)
    write(workplace / "a.en", target)
    words = ["task=translation_de_en", "data=local", "method=sft", "data.train_source=a.de"]
    assert part in refused(*words, "data.train_target=a.en")
    assert "come in pairs" in refused(*words)
    assert "both set" in refused(*words, "data.train_target=a.en", "data.train=a.de")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("p.txt", "a\n", "references is not set"),
        ("p.txt", "", "no predictions"),
        ("p.jsonl", '{"prediction": "a"}\n', "no field 'reference'"),
        ("p.jsonl", '{"text": "a"}\n', "no field 'prediction'"),
        ("p.jsonl", '{"prediction": [], "reference": "a"}\n', "not text"),
        ("p.jsonl", '{"prediction": "a", "reference": "b", "options": 5}\n', "options is 5"),
        ("p.jsonl", '{"prediction": "a", "reference": "b", "options": "' + "[" * 100_000 + '"}\n', "too deeply"),
        ("p.csv", "prediction,reference\n", "no predictions"),
    ],
)
def test_predictions_that_cannot_be_scored(
    name: str, content: str, part: str, workplace: Path, refused: Refused
) -> None:
    write(workplace / name, content)
    assert part in refused("run=score", f"predictions={name}")
    write(workplace / "r.txt", "a\nb\nc\n")
    if name == "p.txt" and content:
        assert "no line for it" in refused("run=score", "predictions=p.txt", "references=r.txt")


def test_a_key_of_ten_megabytes_is_not_read_out(workplace: Path, refused: Refused) -> None:
    write(workplace / "a.jsonl", json.dumps({"k" * 10_000_000: 1, "summary": "b"}) + "\n")
    assert "no field 'document'" in refused(*SUMMARIES, "data.train=a.jsonl")
    write(workplace / "b.jsonl", json.dumps({"document": "b"})[:-1] + ', "' + "k" * 10**7 + '": 1' * 1 + "\n")
    assert "line 1" in refused(*SUMMARIES, "data.train=b.jsonl")
