"""Reading data sets of the Hugging Face hub, local folders of the same layout, and what `save_to_disk` wrote."""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants

from warmup.config.schema import HubSplit
from warmup.data.hub_access import hub_answers
from warmup.data.library import changed, quiet_library
from warmup.data.local import LocatedRecord, read_table, read_text
from warmup.data.texts import listing
from warmup.errors import UserError, nearest, wrong_value
from warmup.files import data_digest


@dataclass
class HubRecords:
    """The records of one split, to be read once, and what tells their content."""

    rows: Iterator[LocatedRecord]
    content: Callable[[], Any]

    def __iter__(self) -> Iterator[LocatedRecord]:
        return self.rows


def read_hub(split: HubSplit, key: str, streaming: bool = False) -> HubRecords:
    """The records of one split.

    Args:
        split: the data set (a hub name or a local folder), its configuration and its split.
        key: the configuration key of `split` ("data.train"), for the error messages.
        streaming: each record is fetched when it is asked for, and nothing is kept.

    Raises:
        UserError: no network, unknown, gated, script-based or broken data set, unknown configuration or split.
    """
    if not split.path:
        raise UserError(f"{key}.path is not set; name a data set of the hub or a folder, or use data=local")
    path = os.path.expanduser(split.path)
    if os.path.isfile(path):
        raise UserError(f"{key}.path={split.path} is a file; read it with data=local {key}={split.path}")
    if os.path.isdir(path):
        with quiet_library(), _explained(split, key):
            rows = (_saved_rows if _is_saved(Path(path)) else _folder_rows)(path, split, key, streaming)
        return HubRecords(rows, lambda: [data_digest(Path(path)), split.name, split.split])
    offline = not constants.HF_HUB_OFFLINE and not hub_answers()
    with quiet_library(bars=True), _offline_mode() if offline else nullcontext(), _explained(split, key):
        if streaming:
            builder = datasets.load_dataset_builder(path, split.name)
            streamed = builder.as_streaming_dataset(split=split.split)
            return HubRecords(_numbered(streamed, split, key), lambda: [builder.cache_dir, split.split])
        found = datasets.load_dataset(path, split.name, split=split.split)
    return HubRecords(_numbered(found, split, key), lambda: found._fingerprint)


def _numbered(
    records: datasets.Dataset | datasets.IterableDataset, split: HubSplit, key: str
) -> Iterator[LocatedRecord]:
    where = f"{split.path} ({', '.join(part for part in (split.name, split.split) if part)})"
    with _explained(split, key):
        for number, record in enumerate(records, start=1):
            yield record, f"{where}, record {number}"


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder: a data set, or a dictionary of them."""
    state = folder / datasets.config.DATASET_STATE_JSON_FILENAME
    return (folder / datasets.config.DATASETDICT_JSON_FILENAME).is_file() or (
        state.is_file() and any(folder.glob("*.arrow"))  # a state.json alone may be data on states
    )


def _saved_rows(path: str, split: HubSplit, key: str, _: bool) -> Iterator[LocatedRecord]:
    """The chosen split of a folder written by `save_to_disk`; without its cache files.

    A data set that was saved alone, without knowing what split it is, is "train", as the library has it elsewhere.
    """
    try:
        saved = datasets.load_from_disk(path)
    except Exception as error:
        what = f"{key}.path={split.path} was written by save_to_disk and cannot be read"
        raise UserError(f"{what}: {type(error).__name__}: {error}") from error
    parts = saved if isinstance(saved, dict) else {str(saved.split or datasets.Split.TRAIN): saved}
    names = sorted({part.info.config_name for part in parts.values()} - {None})
    if split.name and split.name not in names:
        allowed = f"{listing([*names, 'null'])} ({split.path} was written by save_to_disk, which keeps one alone)"
        raise wrong_value(f"{key}.name", split.name, allowed, nearest(split.name, names))
    lengths = {name: len(part) for name, part in parts.items()}
    chosen = [parts[name].select(range(start, end)) for name, start, end in _chosen_parts(split.split, lengths)]
    return _numbered(datasets.concatenate_datasets(chosen), split, key)


def _folder_rows(path: str, split: HubSplit, key: str, streaming: bool) -> Iterator[LocatedRecord]:
    """The chosen split of a folder of plain data files.

    The library finds out which files make up a split. Its readers of CSV, JSON and text guess types, shift columns
    and end lines at carriage returns in silence, so these files are read as data=local reads them.
    """
    builder = datasets.load_dataset_builder(path, split.name)
    splits = {str(name): list(files) for name, files in builder.config.data_files.items()}
    files = [file for part in splits.values() for file in part]
    _check_data_files(files, split, key)
    if builder.name in ("csv", "json", "text") and not _has_options(builder):
        return _rows_of_files(splits, builder.name, split, key)
    if builder.name == "parquet":
        builder.config.batch_size = 1000  # the library takes the first row group's size, which may be 0
    if streaming:
        return _numbered(builder.as_streaming_dataset(split=split.split), split, key)
    builder.download_and_prepare()
    return _numbered(builder.as_dataset(split=split.split), split, key)


def _check_data_files(files: Iterable[str], split: HubSplit, key: str) -> None:
    """Raises UserError where the library would read files as data that `save_to_disk` or a cache left there."""
    for file in files:
        folder, name = os.path.split(file)
        if _is_saved(Path(folder)):
            what = f"{key}.path={split.path} holds folders written by save_to_disk"
            raise UserError(f"{what}; name one of them, as in {key}.path={folder}")
        if fnmatch.fnmatch(name, "cache-*.arrow"):
            what = f"{key}.path={split.path} holds {file}, a cache file of the datasets library and no data"
            raise UserError(f"{what}; remove it")


def _has_options(builder: datasets.DatasetBuilder) -> bool:
    """Whether the folder's README sets options of the library's reader, such as a separator."""
    plain = type(builder.config)()
    no_options = ("name", "version", "data_dir", "data_files", "description", "features")
    names = [field.name for field in dataclasses.fields(plain) if field.name not in no_options]
    return any(getattr(builder.config, name) != getattr(plain, name) for name in names)


def _rows_of_files(splits: Mapping[str, list[str]], kind: str, split: HubSplit, key: str) -> Iterator[LocatedRecord]:
    named = {name for name, _, _ in _chosen_parts(split.split, dict.fromkeys(splits, 10**9))}

    def read(name: str) -> Iterator[LocatedRecord]:
        for file in splits[name]:
            if kind == "text":
                yield from (({"text": line}, where) for line, where in read_text(file))
            else:
                yield from read_table(file)

    def rows() -> Iterator[LocatedRecord]:
        try:
            if split.split in splits:
                yield from read(split.split)
                return
            lengths = {name: sum(1 for _ in read(name)) if name in named else 0 for name in splits}
            for name, start, end in _chosen_parts(split.split, lengths):
                yield from islice(read(name), start, end)
        except UserError as error:
            raise UserError(f"{key}.path={split.path} cannot be read: {error}") from error

    return rows()


def _chosen_parts(chosen: str, lengths: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """What "train[:10%]+test" chooses: names of splits, each with the first record and the one behind the last."""
    parts = datasets.ReadInstruction.from_spec(chosen).to_absolute(lengths)
    return [(part.splitname, part.from_, part.to) for part in parts]


@contextmanager
def _offline_mode() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1: a cached copy is used, without a try at the network."""
    with (
        changed(constants, "HF_HUB_OFFLINE", True),
        changed(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextmanager
def _explained(split: HubSplit, key: str) -> Iterator[None]:
    """Any error of the library as a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _explanation(error, split, key) from error


def _explanation(error: Exception, split: HubSplit, key: str) -> UserError:
    """What a user can do about an error of `datasets.load_dataset`; the library tells most by their text only."""
    text, kinds = str(error), {kind.__name__ for kind in type(error).__mro__}
    if misnamed := _misnamed(text, split, key):
        return misnamed
    what = f"{key}.path={split.path}"
    if "scripts are no longer supported" in text:
        return UserError(f"{what} is a data set with a loading script, which no longer loads; choose a Parquet one")
    if "gated" in text.lower() or "GatedRepoError" in kinds:
        return UserError(
            f"{what} is gated: accept its terms at {constants.ENDPOINT}/datasets/{split.path}, "
            "then run `huggingface-cli login` or set HF_TOKEN"
        )
    if kinds & {"ConnectionError", "Timeout"}:  # Python's own or those of requests
        return UserError(
            f"{what}: the Hugging Face hub is out of reach and no cached copy was found; offline use data=toy, "
            f"or data=local {key}=FILE, or a local folder as {key}.path "
            "(with HF_HUB_OFFLINE=1 cached copies load without a network)"
        )
    if isinstance(error, FileNotFoundError):
        return UserError(
            f"{what}: no such data set on the hub (or it is private: run `huggingface-cli login`), "
            "and no folder of that name with data files"
        )
    cause = error.__cause__ or error
    return UserError(f"{what} cannot be read: {type(cause).__name__}: {cause}")


def _misnamed(text: str, split: HubSplit, key: str) -> UserError | None:
    """The error for a configuration or split that the data set does not have."""
    known = _listed(text)
    if "BuilderConfig" in text and "not found" in text:
        return wrong_value(f"{key}.name", split.name, listing(known), nearest(split.name, known))
    if "Couldn't find cache" in text:
        return wrong_value(f"{key}.name", split.name, f"{listing(known)} (all that is cached; the hub is out of reach)")
    if "Config name is missing" in text:
        return UserError(f"{key}.name is not set; {split.path} has the configurations {listing(known)}")
    if "Unknown split" in text:
        return wrong_value(f"{key}.split", split.split, listing(known), nearest(split.split, known))
    if "Unrecognized instruction format" in text:
        return wrong_value(f"{key}.split", split.split, "a split, or a part of one as 'train[:1000]' or 'train[:10%]'")
    return None


def _listed(text: str) -> list[str]:
    """The names in the first Python list of a message."""
    found = re.search(r"\[.*?\]", text, re.DOTALL)
    try:
        names: Any = ast.literal_eval(found.group()) if found else []
    except (SyntaxError, ValueError):
        names = []
    return [str(name) for name in names]
