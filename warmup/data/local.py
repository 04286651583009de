"""Records of the user's own files, each with the place it came from. Reading is `datasets`'; so are the formats."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from warmup.errors import UserError

Record = tuple[dict[str, Any], str]  # the record's fields, and "file, line n"
BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
TEXT = (".txt", ".text")


def kind_of(path: Path) -> str:
    """The file's extension without `.gz`, in lower case."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_table(path: str, fields: Mapping[str, str] | None = None) -> Iterator[Record]:
    """The records of a JSON-lines, JSON, CSV, TSV or Parquet file, plain or gzipped.

    `fields` maps a task's field to a column; dots reach into nested records.

    Raises:
        UserError: an unknown kind of file, a broken file or record (with its line), or no record at all.
    """
    file = Path(path).expanduser()
    kind = kind_of(file)
    if kind not in BUILDERS:
        raise UserError(f"{path}: {kind or 'no extension'} is no table; allowed: {', '.join(BUILDERS)}, each also as .gz")
    if BUILDERS[kind] == "json":
        records: Iterator[Record] = _read_json(file)
    else:
        records = _read_with_datasets(file, kind)
    found = False
    for record, where in records:
        found = True
        yield rename(record, fields, where), where
    if not found:
        raise UserError(f"{path} holds no record")


def read_parallel(source: str, target: str) -> Iterator[Record]:
    """Line n of `source` with line n of `target`, as records of `source` and `target`.

    Raises:
        UserError: the files differ in length, or a line is empty.
    """
    sides = [_read_lines(Path(path).expanduser()) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{source} has {len(sides[0])} lines and {target} has {len(sides[1])}; parallel files need a line for each"
        )
    if not sides[0]:
        raise UserError(f"{source} holds no line")
    for number, (left, right) in enumerate(zip(*sides, strict=True), start=1):
        yield {"source": left, "target": right}, f"{source if not left.strip() else target}, line {number}"


def read_texts(path: str, field: str) -> Iterator[Record]:
    """Each line of a text file as a record of one field."""
    for number, line in enumerate(_read_lines(Path(path).expanduser()), start=1):
        yield {field: line}, f"{path}, line {number}"


def rename(record: dict[str, Any], fields: Mapping[str, str] | None, where: str) -> dict[str, Any]:
    """`record` with the task's field names added.

    Raises:
        UserError: a mapped column is not there.
    """
    renamed = dict(record)
    for name, column in (fields or {}).items():
        value: Any = record
        # a column whose own name holds a dot is found first
        for part in [column] if column in record else column.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise UserError(f"{where}: there is no column {column!r} (for {name}); it has {', '.join(map(str, record))}")
            value = value[part]
        renamed[name] = value
    return renamed


def _read_json(file: Path) -> Iterator[Record]:
    """JSON lines, or one JSON array; line by line, since `datasets` does not say which line it cannot parse."""
    text = "\n".join(_read_lines(file))
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise UserError(f"{file}: not JSON: {error}") from error
        numbered = [(f"{file}, record {number}", row) for number, row in enumerate(rows, start=1)]
    else:
        numbered = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    numbered.append((f"{file}, line {number}", json.loads(line)))
                except ValueError as error:
                    raise UserError(f"{file}, line {number}: not JSON: {error}") from error
    for where, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f"{where}: a record is an object in braces, and this is {type(row).__name__}")
        yield row, where


def _read_with_datasets(file: Path, kind: str) -> Iterator[Record]:
    options: dict[str, Any] = {} if kind == ".parquet" else {"sep": "\t" if kind == ".tsv" else ",", "keep_default_na": False}
    with tempfile.TemporaryDirectory() as cache, _no_progress_bars():
        try:
            table = datasets.load_dataset(
                BUILDERS[kind], data_files=str(file), split="train", cache_dir=cache, keep_in_memory=True, **options
            )
        except Exception as error:
            cause = error.__cause__ or error
            raise UserError(f"{file} cannot be read as {kind[1:]}: {str(cause).splitlines()[0]}") from error
        unit, first = ("line", 2) if BUILDERS[kind] == "csv" else ("row", 1)
        for number, row in enumerate(table, start=first):
            yield dict(row), f"{file}, {unit} {number}"


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _read_lines(file: Path) -> list[str]:
    """Lines that end in a newline alone: other separators, such as U+2028, are part of a text."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}, line {data[: error.start].count(10) + 1}: not UTF-8") from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{file} is not a whole gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
