"""Reading data sets of the Hugging Face hub, or local folders of the same layout, with errors of one line."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import datasets
from huggingface_hub import constants

from warmup.config.schema import HubSplit
from warmup.data.examples import listing
from warmup.data.local import Row, changed, silent_datasets
from warmup.environment import hub_answers
from warmup.errors import UserError, nearest, wrong_value


def read_hub(split: HubSplit, key: str) -> Iterator[Row]:
    """The records of one split.

    Args:
        split: the data set (a hub name or a local folder), its configuration and its split.
        key: the configuration key of `split` ("data.train"), for the error messages.

    Raises:
        UserError: no network, unknown, gated, script-based or broken data set, unknown configuration or split.
    """
    if not split.path:
        raise UserError(f"{key}.path is not set; name a data set of the hub or a folder, or use data=local")
    path = os.path.expanduser(split.path)
    if os.path.isfile(path):
        raise UserError(f"{key}.path={split.path} is a file; read it with data=local {key}={split.path}")
    rows = _load(path, split, key)
    where = f"{split.path} ({', '.join(part for part in (split.name, split.split) if part)})"
    return ((record, f"{where}, record {number}") for number, record in enumerate(rows, start=1))


def _load(path: str, split: HubSplit, key: str) -> datasets.Dataset:
    local = os.path.isdir(path)
    offline = not local and not constants.HF_HUB_OFFLINE and not hub_answers()
    with silent_datasets(), _no_bars() if local else nullcontext(), _offline_mode() if offline else nullcontext():
        try:
            return datasets.load_dataset(path, split.name, split=split.split)
        except Exception as error:
            raise _explained(error, split, key) from error


@contextmanager
def _offline_mode() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1: a cached copy is used, without a try at the network."""
    with (
        changed(constants, "HF_HUB_OFFLINE", True),
        changed(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextmanager
def _no_bars() -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _explained(error: Exception, split: HubSplit, key: str) -> UserError:
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
