"""Token ids of examples on disk: made by several processes, 32-bit integers in Arrow files mapped into memory."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from warmup.data.examples import Example
from warmup.data.kept import digest_of, filled_folder, kept_folder
from warmup.data.stored import ROWS, StoredExamples, examples_of, mapped
from warmup.errors import UserError
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import (
    TextReader,
    check_room,
    encode_sources,
    encode_targets,
    warn_cut_sources,
    warn_cut_targets,
)

if TYPE_CHECKING:  # which takes long to import, as `datasets` does, and small data does without
    import pyarrow

log = logging.getLogger(__name__)
FEWEST_EXAMPLES = 20_000  # that another process is worth its start
TOKEN_FILES = "tokens"  # how the files begin


class TokenRows(Sequence[list[int]]):
    """Rows of token ids, each read from the disk as it is asked for."""

    def __init__(self, column: pyarrow.ChunkedArray) -> None:
        self._chunks = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks]
        self._starts = np.cumsum([0, *(len(offsets) - 1 for offsets, _ in self._chunks)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...

    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        index = range(len(self))[index]
        chunk = bisect_right(self._starts, index) - 1
        offsets, values = self._chunks[chunk]
        place = index - self._starts[chunk]
        row: list[int] = values[offsets[place] : offsets[place + 1]].tolist()
        return row

    @property
    def lengths(self) -> np.ndarray:
        """[n] tokens of each row; the rows themselves are not read."""
        return np.concatenate([np.diff(offsets) for offsets, _ in self._chunks])


@dataclass(frozen=True)
class _Tokenisation:
    """Token ids of a batch of rows; what `map` hands to its processes."""

    reader: TextReader
    limits: tuple[int, int]  # of sources and targets, in tokens

    def __call__(self, rows: pyarrow.Table) -> pyarrow.Table:
        import pyarrow

        examples = examples_of(rows.to_pydict())
        sources = [self.reader.source(example, self.limits[0]) for example in examples]
        targets = [self.reader.target(example, self.limits[1]) for example in examples]
        ids = pyarrow.list_(pyarrow.int32())
        return pyarrow.table(
            {
                "source": pyarrow.array([row for row, _ in sources], ids),
                "target": pyarrow.array([row for row, _ in targets], ids),
                "source_cut": [cut for _, cut in sources],
                "target_cut": [cut for _, cut in targets],
            }
        )


def encode_pairs(
    backbone: Backbone, examples: Sequence[Example], limits: Limits, split: str
) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
    """Sources and targets as `encode_sources` and `encode_targets` give them; of examples on disk, on disk too.

    Raises:
        UserError: no room for a source, a full disk, or one of the processes was killed.
    """
    if not isinstance(examples, StoredExamples):
        sources = encode_sources(backbone, examples, limits.source, split)
        return sources, encode_targets(backbone, examples, limits.target, split)
    check_room(backbone, limits.source)
    work = _Tokenisation(TextReader.of(backbone), (limits.source, limits.target))
    name = f"the {split} examples as token ids"
    digest = digest_of([examples.digest, work.reader.identity(), work.limits])
    folder = kept_folder(name, digest) or filled_folder(name, digest, lambda empty: _tokenise(work, examples, empty))
    rows = mapped(sorted(folder.glob(f"{TOKEN_FILES}*.arrow")))
    cut = [int(np.count_nonzero(rows.data.column(f"{side}_cut").to_numpy())) for side in ("source", "target")]
    warn_cut_sources(cut[0], len(rows), split, limits.source)
    warn_cut_targets(cut[1], len(rows), split, limits.target)
    return TokenRows(rows.data.column("source")), TokenRows(rows.data.column("target"))


def _tokenise(work: _Tokenisation, examples: StoredExamples, folder: Path) -> None:
    import datasets

    from warmup.data.library import quiet_library

    processes = min(_free_processors(), max(1, len(examples) // FEWEST_EXAMPLES))
    log.info("tokenising %s examples in %d processes; the next run finds them", f"{len(examples):,}", processes)
    ids = datasets.List(datasets.Value("int32"))
    cut = datasets.Value("bool")
    with quiet_library(), _environment_kept():
        try:
            examples.rows.with_format("arrow").map(
                work,
                batched=True,
                batch_size=ROWS,
                remove_columns=examples.rows.column_names,
                features=datasets.Features({"source": ids, "target": ids, "source_cut": cut, "target_cut": cut}),
                num_proc=processes if processes > 1 else None,
                cache_file_name=str(folder / f"{TOKEN_FILES}.arrow"),
                new_fingerprint=examples.digest,
            )
        except RuntimeError as error:
            if "abruptly died" not in str(error):
                raise
            raise UserError("a process that tokenised the data was killed, most often for want of memory") from error


def _free_processors() -> int:
    """Those that this process may use: of several that were launched, one tokenises and the others wait for it."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """`map` replaces `os.environ` by a copy, and leaves what it sets for its processes to this one."""
    environment, name = os.environ, "TOKENIZERS_PARALLELISM"
    before = environment.get(name)
    try:
        yield
    finally:
        os.environ = environment  # noqa: B003 - the object itself
        if before is None:
            environment.pop(name, None)
        else:
            environment[name] = before
