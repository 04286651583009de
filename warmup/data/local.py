"""Reading the user's files: tables of records, and parallel text files.

Files are read line by line here and not by the `datasets` library, whose readers end lines at lone carriage returns,
guess types, fill up missing fields with nothing and do not say which line is wrong.
"""

from __future__ import annotations

import csv
import gzip
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warmup.data.json_text import parse_json
from warmup.data.text_lines import opened, text_lines
from warmup.errors import UserError
from warmup.files import check_file

log = logging.getLogger(__name__)
LocatedRecord = tuple[dict[str, Any], str]  # a record, and where it came from: "train.jsonl, line 7"
Cells = tuple[list[str], str]  # the cells of one row of a table, and where it came from
_RETURN = "\udc0d"  # stands for a carriage return while `csv` reads, which takes it for a line end; no UTF-8 has it
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


def read_table(path: str) -> Iterator[LocatedRecord]:
    """The records of a JSON-lines, JSON, CSV, TSV or Parquet file, plain or gzipped (by its content).

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
    return _records(_csv_rows(path) if kind == "csv" else _tsv_rows(path), path)


def read_text(path: str) -> Iterator[tuple[str, str]]:
    """The lines of a text file, plain or gzipped, each with where it came from; UTF-8."""
    path = check_file(path)
    return ((line, f"{path}, line {number}") for number, line in enumerate(text_lines(path), start=1))


def read_parallel(source: str, target: str, source_field: str, target_field: str) -> Iterator[LocatedRecord]:
    """Records of two fields out of two text files, where line n of one translates line n of the other.

    Raises:
        UserError: a table in place of a text file, different lengths, or a blank line.
    """
    source, target = check_file(source), check_file(target)
    for path in (source, target):
        if table_kind(path):
            raise UserError(f"{path} is a table, not a text file of one example a line; give it as data.train={path}")
    lengths = [sum(1 for _ in text_lines(path)) for path in (source, target)]
    if lengths[0] != lengths[1]:
        raise UserError(
            f"parallel files differ in length: {source} has {lengths[0]} lines, {target} has {lengths[1]}; "
            "line n of one must belong to line n of the other"
        )
    return _parallel_rows(source, target, source_field, target_field)


def _parallel_rows(source: str, target: str, source_field: str, target_field: str) -> Iterator[LocatedRecord]:
    for number, lines in enumerate(zip(text_lines(source), text_lines(target), strict=True), start=1):
        for path, line in zip((source, target), lines, strict=True):
            if not line.strip():
                raise UserError(f"{path}, line {number}: the line is blank; remove it from both files, or fill it")
        yield {source_field: lines[0], target_field: lines[1]}, f"{source}, line {number}"


def _json_rows(path: str) -> Iterator[LocatedRecord]:
    opened = False
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if not opened and line.lstrip().startswith("["):
            yield from _json_array(path)
            return
        opened = True
        record = parse_json(line, where)
        if not isinstance(record, dict):
            raise UserError(f"{where}: not a JSON object but a {type(record).__name__}; write one {{...}} a line")
        yield record, where


def _json_array(path: str) -> Iterator[LocatedRecord]:
    """The records of a file that is one JSON array."""
    records = parse_json("\n".join(text_lines(path)), path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number}: not a JSON object but a {type(record).__name__}")
        yield record, f"{path}, record {number}"


def _csv_rows(path: str) -> Iterator[Cells]:
    """The cells of a CSV file, which may be quoted; inside quotes a line end is text too."""
    csv.field_size_limit(2**31 - 1)  # the module refuses cells over 131,072 characters otherwise
    reader = csv.reader(map(_with_returns_marked, text_lines(path, keep_ends=True)), strict=True)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{where}: not a table of values: {error}") from error
        yield [cell.replace(_RETURN, "\r") for cell in cells], where


def _with_returns_marked(line: str) -> str:
    end = "\r\n" if line.endswith("\r\n") else ""
    return line.removesuffix(end).replace("\r", _RETURN) + end


def _tsv_rows(path: str) -> Iterator[Cells]:
    return ((line.split("\t"), f"{path}, line {number}") for number, line in enumerate(text_lines(path), start=1))


def _records(rows: Iterator[Cells], path: str) -> Iterator[LocatedRecord]:
    """Records out of cells, the first row with a value being the header.

    Blank lines are skipped, but in a table of one column, where each is an empty value. Rows without any value at
    the end of a table, as Excel writes them, are left out and counted.
    """
    header: list[str] = []
    one_column = False
    empty_rows: list[Cells] = []  # they are rows where another follows
    for cells, where in rows:
        empty = not any(cell.strip() for cell in cells)
        if not header:
            header = [] if empty else _header(cells, where)
            one_column = bool(header) and not any(header[1:])
        elif one_column:
            yield _named_cells(header, cells or [""], where), where
        elif empty:
            empty_rows += [(cells, where)] if len(cells) > 1 else []
        else:
            for row in [*empty_rows, (cells, where)]:
                yield _named_cells(header, *row), row[1]
            empty_rows = []
    if empty_rows:
        log.warning("%s: the last %d rows have no value in any column and are left out", path, len(empty_rows))


def _header(cells: list[str], where: str) -> list[str]:
    header = [name.strip() for name in cells]
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise UserError(f"{where}: the header names a column twice: {', '.join(named)}")
    return header


def _named_cells(header: list[str], cells: list[str], where: str) -> dict[str, str]:
    """The named cells of one row.

    The first column may go without a name: data frames write the rows' own names there. Any other must be empty, as
    Excel's are, which may also be missing at the end of a row.
    """
    named = max(number for number, name in enumerate(header, start=1) if name)
    if not named <= len(cells) <= len(header):
        raise UserError(f"{where}: {len(cells)} values, but the header names {named} columns")
    for number, (name, cell) in enumerate(zip(header, cells, strict=False), start=1):
        if not name and cell.strip() and number > 1:
            raise UserError(f"{where}: the header has no name for column {number}, which holds {cell[:40]!r}")
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def _parquet_rows(path: str) -> Iterator[LocatedRecord]:
    from pyarrow import parquet

    number = 0
    try:
        with opened(path) as file, tempfile.TemporaryFile() as unzipped:
            if isinstance(file, gzip.GzipFile):  # Parquet is read from its end, which a gzip stream cannot reach
                shutil.copyfileobj(file, unzipped)
                file = unzipped
            table = parquet.ParquetFile(file)
            columns = table.schema_arrow.names
            if len(set(columns)) < len(columns):
                raise UserError(f"{path}: a column is there twice: {', '.join(columns)}")
            for batch in table.iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    number += 1
                    yield record, f"{path}, row {number}"
    except UserError:
        raise
    except Exception as error:  # pyarrow raises a dozen kinds
        raise UserError(f"cannot read {path}, behind row {number}: {error}") from error
