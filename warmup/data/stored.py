"""Examples on disk: an Arrow file that is mapped into memory, of which as many rows are read as are needed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from warmup.data.examples import Example
from warmup.data.kept import digest_of, filled_folder, kept_folder, kept_value
from warmup.errors import UserError
from warmup.files import read_json, write_json

if TYPE_CHECKING:  # both take long to import, and small data does without
    import datasets
    import pyarrow

log = logging.getLogger(__name__)
MOST_IN_MEMORY = 20_000  # examples of one split; more are kept on disk
ROWS = 1000  # read or written at a time
EXAMPLES_FILE, NOTES_FILE = "examples.arrow", "notes.json"


@dataclass
class WordedExamples:
    """The examples of one split as they are read, and what they are told apart by.

    Attributes:
        name: what messages call them.
        examples: made as they are asked for.
        content: JSON values on which they depend and nothing else; asked for only where there are many.
        notes: what is to be said about those that were read.
    """

    name: str
    examples: Iterator[Example]
    content: Callable[[], Any]
    notes: Callable[[], list[str]] = list

    def collected(self, limit: int | None) -> Sequence[Example]:
        """The first `limit`, or all: in memory where they are few, else on disk, from where the next run takes them.

        Raises:
            UserError: what reading them raises; the data changed meanwhile; the disk is full.
        """
        if limit is not None and limit <= MOST_IN_MEMORY:
            return _noted(list(islice(self.examples, limit)), self.notes)
        content = [self.content(), limit]
        digest = digest_of(content)
        folder = kept_folder(self.name, digest)
        if folder is None:
            first = list(islice(self.examples, MOST_IN_MEMORY + 1))
            if len(first) <= MOST_IN_MEMORY:
                return _noted(first, self.notes)
            rest = islice(self.examples, None if limit is None else limit - len(first))

            def fill(empty: Path) -> None:
                log.info("%s: more than %s examples, which are kept in %s", self.name, MOST_IN_MEMORY, empty.parent)
                _write(empty / EXAMPLES_FILE, chain(first, rest))
                if [self.content(), limit] != content:
                    raise UserError(f"{self.name} changed while it was read; start again once it stays as it is")
                write_json(empty / NOTES_FILE, self.notes())

            folder = filled_folder(self.name, digest, fill)
        return _noted(StoredExamples.read(folder, digest), lambda: read_json(folder / NOTES_FILE))


class StoredExamples(Sequence[Example]):
    """Examples in an Arrow file, or some of them in an order of their own."""

    def __init__(self, rows: datasets.Dataset, digest: str) -> None:
        self.rows = rows  # columns as in `_schema`
        self.digest = digest  # tells these examples from all others

    @classmethod
    def read(cls, folder: Path, digest: str) -> StoredExamples:
        """Those that `_write` left in a folder."""
        return cls(mapped([folder / EXAMPLES_FILE]), digest)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> StoredExamples: ...

    def __getitem__(self, index: int | slice) -> Example | StoredExamples:
        if not isinstance(index, slice):
            return examples_of({name: [value] for name, value in self.rows[index].items()})[0]
        chosen = range(len(self))[index]
        return self if chosen == range(len(self)) else self.select(np.arange(chosen.start, chosen.stop, chosen.step))

    def __iter__(self) -> Iterator[Example]:
        for batch in self.rows.with_format("arrow").iter(ROWS):
            yield from examples_of(batch.to_pydict())

    def select(self, indices: np.ndarray) -> StoredExamples:
        """Those at `indices` [n], in this order."""
        digest = digest_of([self.digest, hashlib.sha256(indices.astype(np.int64).tobytes()).hexdigest()])
        return StoredExamples(self.rows.select(indices, new_fingerprint=digest), digest)

    @property
    def prompt_hashes(self) -> np.ndarray:
        """[n] equal for equal prompts; of 40 million different ones two are the same with a probability of 4e-5."""
        found: np.ndarray = self.rows.select_columns(["prompt_hash"]).with_format("arrow")[:]["prompt_hash"].to_numpy()
        return found


def _noted(found: Sequence[Example], notes: Callable[[], list[str]]) -> Sequence[Example]:
    for note in notes():
        log.warning("%s", note)
    return found


def selected(examples: Sequence[Example], indices: np.ndarray) -> Sequence[Example]:
    """The examples at `indices` [n]."""
    if isinstance(examples, StoredExamples):
        return examples.select(indices)
    return [examples[index] for index in indices.tolist()]


def remembered(examples: Sequence[Example], name: str, content: Callable[[], Any], compute: Callable[[], Any]) -> Any:
    """What `compute` finds out about `examples`, JSON values; of examples on disk, kept there for the next run.

    Args:
        name: what messages call it.
        content: gives the JSON values on which it depends beside the examples.
    """
    if not isinstance(examples, StoredExamples):
        return compute()
    return kept_value(name, digest_of([examples.digest, name, content()]), compute)


def mapped(files: Iterable[Path]) -> datasets.Dataset:
    """The rows of Arrow files, mapped into memory."""
    import datasets

    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])


def examples_of(columns: dict[str, list[Any]]) -> list[Example]:
    """The examples of rows, column by column."""
    options = (None if choices is None else tuple(choices) for choices in columns["options"])
    cuttable = (None if place is None else (place[0], place[1]) for place in columns["cuttable"])
    rows = zip(columns["source"], columns["prompt"], columns["target"], options, cuttable, strict=True)
    return [Example(*row) for row in rows]


def _schema() -> pyarrow.Schema:
    import pyarrow

    text = pyarrow.string()
    return pyarrow.schema(
        {
            "source": text,
            "prompt": text,
            "target": text,
            "options": pyarrow.list_(text),
            "cuttable": pyarrow.list_(pyarrow.int32()),
            "prompt_hash": pyarrow.int64(),
        }
    )


def _write(path: Path, examples: Iterator[Example]) -> None:
    import pyarrow

    schema = _schema()
    with pyarrow.ipc.new_stream(str(path), schema) as file:
        while rows := list(islice(examples, ROWS)):
            columns = {name: [getattr(row, name) for row in rows] for name in schema.names[:-1]}
            columns["prompt_hash"] = [_hash(row.prompt) for row in rows]
            file.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
