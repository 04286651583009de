"""Reading the user's files through the `datasets` library: tables of records, and parallel text files.

JSON lines, CSV and TSV are streamed line by line with the library's text reader and parsed here, because its own
readers guess types, fill up missing fields with nothing and do not say which line is wrong.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import datasets

from warmup.errors import UserError, nearest

Row = tuple[dict[str, Any], str]  # a record, and where it came from: "train.jsonl, line 7"
TABLE_KINDS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def table_kind(path: str) -> str | None:
    """json, csv, tsv or parquet by the extension, a closing `.gz` aside; None for any other file."""
    name = Path(path).name.lower().removesuffix(".gz")
    return TABLE_KINDS.get(Path(name).suffix)


def read_table(path: str) -> Iterator[Row]:
    """The records of a JSON-lines, JSON, CSV, TSV or Parquet file, plain or gzipped.

    CSV and TSV values stay text. CSV quotes as usual; TSV does not quote, as in the corpora that use it.

    Raises:
        UserError: the file is missing, of an unknown kind or broken; with its line where it has lines.
    """
    path = check_file(path)
    kind = table_kind(path)
    if kind is None:
        raise UserError(
            f"{path}: unknown kind of file; allowed: {', '.join(TABLE_KINDS)}, each also with .gz, "
            "or two parallel text files (data.train_source=FILE data.train_target=FILE)"
        )
    if kind == "json":
        return _json_rows(path)
    if kind == "parquet":
        return _parquet_rows(path)
    return _csv_rows(path, ",", csv.QUOTE_MINIMAL) if kind == "csv" else _csv_rows(path, "\t", csv.QUOTE_NONE)


def read_text(path: str) -> Iterator[tuple[str, str]]:
    """The lines of a text file, plain or gzipped, each with where it came from; UTF-8."""
    path = check_file(path)
    return ((line, f"{path}, line {number}") for number, line in enumerate(_lines(path), start=1))


def read_parallel(source: str, target: str, source_field: str, target_field: str) -> Iterator[Row]:
    """Records of two fields out of two text files, where line n of one translates line n of the other.

    Raises:
        UserError: a table in place of a text file, different lengths, or a blank line.
    """
    source, target = check_file(source), check_file(target)
    for path in (source, target):
        if table_kind(path):
            raise UserError(f"{path} is a table, not a text file of one example a line; give it as data.train={path}")
    lengths = [sum(1 for _ in _lines(path)) for path in (source, target)]
    if lengths[0] != lengths[1]:
        raise UserError(
            f"parallel files differ in length: {source} has {lengths[0]} lines, {target} has {lengths[1]}; "
            "line n of one must belong to line n of the other"
        )
    return _parallel_rows(source, target, source_field, target_field)


def check_file(path: str) -> str:
    """`path` with `~` filled in; a `UserError` unless it is a file, naming the nearest file of that folder."""
    path = os.path.expanduser(path)
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UserError(
            f"{path} is a folder; name a file in it, or load the folder with data=hub data.train.path={path}"
        )
    if not os.path.isdir(folder):
        raise UserError(f"{path}: no such file, and no folder {folder}")
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file{nearest(os.path.basename(path), os.listdir(folder))}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: no permission to read this file")
    return path


def _parallel_rows(source: str, target: str, source_field: str, target_field: str) -> Iterator[Row]:
    for number, lines in enumerate(zip(_lines(source), _lines(target), strict=True), start=1):
        for path, line in zip((source, target), lines, strict=True):
            if not line.strip():
                raise UserError(f"{path}, line {number}: the line is blank; remove it from both files, or fill it")
        yield {source_field: lines[0], target_field: lines[1]}, f"{source}, line {number}"


def _json_rows(path: str) -> Iterator[Row]:
    opened = False
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if not opened and line.lstrip().startswith("["):
            yield from _json_array(path)
            return
        opened = True
        record = _parse_json(line, where)
        if not isinstance(record, dict):
            raise UserError(f"{where}: not a JSON object but a {type(record).__name__}; write one {{...}} a line")
        yield record, where


def _json_array(path: str) -> Iterator[Row]:
    """The records of a file that is one JSON array."""
    records = _parse_json("\n".join(_lines(path)), path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number}: not a JSON object but a {type(record).__name__}")
        yield record, f"{path}, record {number}"


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text else ""  # inside an array of many lines
        raise UserError(f"{where}{line}: not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not a record: nested too deeply") from error


def _csv_rows(path: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Row]:
    lines = (line + "\n" for line in _lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{where}: not a table of values: {error}") from error
        if not any(value.strip() for value in values):
            continue
        if header is None:
            header = [name.strip() for name in values]
            if len(set(header)) < len(header):
                raise UserError(f"{where}: the header names a column twice: {', '.join(header)}")
            continue
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values, but the header names {len(header)} columns")
        yield dict(zip(header, values, strict=True)), where


def _parquet_rows(path: str) -> Iterator[Row]:
    number = 0
    for batch in _batches("parquet", path):
        columns = list(batch)
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield dict(zip(columns, values, strict=True)), f"{path}, row {number}"


def _lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 text file without their ends, a byte order mark dropped."""
    for batch in _batches("text", path, encoding="utf-8-sig"):
        yield from batch["text"]


def _batches(builder: str, path: str, **options: Any) -> Iterator[dict[str, list[Any]]]:
    """Columns of up to 1,000 rows at a time. Streamed: nothing is copied into a cache, and no bar is drawn."""
    options |= {"split": "train", "streaming": True}
    with tempfile.TemporaryDirectory() as cache:
        try:
            file = _unzipped(path, cache) if builder == "parquet" and path.endswith(".gz") else os.path.abspath(path)
            with silent_datasets():
                # escaped: the library takes a path for a pattern, and brackets in a name are only a name
                stream = datasets.load_dataset(builder, data_files=glob.escape(file), cache_dir=cache, **options)
                batches = iter(stream.iter(batch_size=1000))
            while True:
                with silent_datasets():  # not around the yield: readers of two files end in any order
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {_undecodable_line(path)}: not UTF-8; convert the file first") from error
        except (EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: not a whole gzip file ({error})") from error
        except Exception as error:
            raise UserError(f"cannot read {path}: {error}") from error


def _unzipped(path: str, folder: str) -> str:
    """A copy of a gzipped file in `folder`: Parquet is read from its end, which a gzip stream cannot reach."""
    copy = os.path.join(folder, "unzipped.parquet")
    with gzip.open(path) as zipped, open(copy, "wb") as plain:
        shutil.copyfileobj(zipped, plain)
    return copy


@contextmanager
def silent_datasets() -> Iterator[None]:
    """The `datasets` library without its messages (ours are shorter) and without reporting each load to its servers."""
    level = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        with changed(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False):  # seconds a file where there is no network
            yield
    finally:
        datasets.logging.set_verbosity(level)


@contextmanager
def changed(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Another value for a library's setting that has no function to set it, put back at the end."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _undecodable_line(path: str) -> int:
    """The first line that is not UTF-8, counted from 1."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
