"""Records of data sets on the Hugging Face hub, or in a local folder of the same layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled
from requests.exceptions import ConnectionError as NetworkError

from warmup.config.schema import HubSplit
from warmup.data.local import Record, rename
from warmup.errors import UserError, nearest

OFFLINE_ADVICE = "go on offline with data=toy or data=local data.train=FILE, or connect once: it is then kept in the cache"


def read_hub(split: HubSplit) -> Iterator[Record]:
    """The records of one split, with the task's field names.

    Raises:
        UserError: no network, no access, no such data set, configuration, split or column.
    """
    assert split.path
    table = _load(split)
    for number, row in enumerate(table, start=1):
        where = f"{split.path} ({split.split}), row {number}"
        yield rename(dict(row), split.fields, where), where


def _load(split: HubSplit) -> datasets.Dataset:
    path = split.path or ""
    try:
        return datasets.load_dataset(path, split.name, split=split.split)
    except Exception as error:
        raise _explain(split, path, error) from error


def _explain(split: HubSplit, path: str, error: Exception) -> UserError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 10:
        chain.append(cause)
    if "gated" in str(error) or any(isinstance(link, GatedRepoError) for link in chain):
        return UserError(
            f"the data set {path} is gated: accept its terms on huggingface.co/datasets/{path}, then run "
            "`huggingface-cli login` or set HF_TOKEN"
        )
    if "script" in str(error).lower():
        return UserError(f"the data set {path} is loaded by a script, which is not run: choose a Parquet one")
    offline = any(isinstance(link, (OfflineModeIsEnabled, NetworkError, ConnectionError)) for link in chain)
    if offline or "couldn't reach" in str(error).lower():
        return UserError(f"cannot reach the Hugging Face hub for the data set {path}: {OFFLINE_ADVICE}")
    if isinstance(error, (DatasetNotFoundError, DataFilesNotFoundError, FileNotFoundError)):
        what = "folder" if Path(path).expanduser().is_dir() else "hub data set or folder"
        return UserError(f"there is no data in the {what} {path}: check the spelling, or set HF_TOKEN if it is private")
    return _wrong_name(split, path) or UserError(f"cannot load the data set {path}: {first_line}")


def _wrong_name(split: HubSplit, path: str) -> UserError | None:
    """Names the configurations or splits that there are, where the one asked for is not among them."""
    try:
        names = datasets.get_dataset_config_names(path)
        if split.name and split.name not in names:
            return UserError(f"{path} has no configuration {split.name!r}; allowed: {', '.join(names)}{nearest(split.name, names)}")
        splits = datasets.get_dataset_split_names(path, split.name)
    except Exception:  # the first error is the one worth telling
        return None
    plain = split.split.partition("[")[0]
    if plain not in splits:
        return UserError(f"{path} has no split {plain!r}; allowed: {', '.join(splits)}{nearest(plain, splits)}")
    return None
