"""`inputs.json`: a digest of everything that a run read, by which a folder whose inputs changed is another run's.

A file counts by its content: another time stamp changes nothing. What was worded from the data is digested too, so that
data of the hub, the toy generator and the wording itself are compared when a run goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from warmup.config.data import needed_splits
from warmup.config.facts import Facts
from warmup.config.lora import ADAPTER_FILE
from warmup.config.schema import Config, HubData, LocalData
from warmup.data.stored import remembered
from warmup.errors import UserError
from warmup.files import data_digest, folder_digest, read_json
from warmup.metrics.registry import METRICS
from warmup.runs.file_names import RunFile
from warmup.runs.folder import ANOTHER_FOLDER
from warmup.runs.records import Inputs
from warmup.training.processes import is_main_process

if TYPE_CHECKING:
    from warmup.data.examples import Example

MODEL_FILES = {".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"}  # weights, configuration, tokenizer
NO_DIGESTS: Mapping[str, str] = MappingProxyType({})
log = logging.getLogger(__name__)


def record_inputs(
    folder: Path, config: Config, examples: Mapping[str, Sequence[Example]], given: Mapping[str, str] = NO_DIGESTS
) -> None:
    """Write the digests of what this run has read, its `examples` by split among it, into `folder`.

    `given`: digests of what the environment gave, which config.yaml does not tell (`environment_digests`).

    Raises:
        UserError: the folder's run read something else; the line names it.
    """
    worded = {
        f"{split}_examples": remembered(
            found, f"the digest of the {split} examples", lambda: None, partial(_worded_digest, found)
        )
        for split, found in examples.items()
        if found
    }
    found = {**given, **_configured_inputs(config), **worded}
    recorded = _recorded(folder)
    _refuse_changes(folder, recorded, found)
    if not recorded and (folder / RunFile.CHECKPOINTS).is_dir():
        log.warning("%s was begun by a version that kept no %s: its inputs cannot be compared", folder, RunFile.INPUTS)
    if is_main_process():
        Inputs({**recorded, **found}).write(folder)


def refuse_changed_files(folder: Path, config: Config, given: Mapping[str, str] = NO_DIGESTS) -> None:
    """Compare what can be compared without loading anything: files, folders, and cached models of the hub.

    Raises:
        UserError: one of them is not what the folder's run read; the line names it.
    """
    if recorded := _recorded(folder):
        _refuse_changes(folder, recorded, {**given, **_configured_inputs(config)})


def _recorded(folder: Path) -> Mapping[str, str]:
    try:
        return Inputs.read(folder).digests
    except UserError as error:
        raise UserError(f"{error}: {ANOTHER_FOLDER}") from error


def _refuse_changes(folder: Path, recorded: Mapping[str, str], found: Mapping[str, str]) -> None:
    for key, digest in found.items():
        if recorded.get(key, digest) != digest:
            raise UserError(
                f"{folder} holds a run with another {key!r}: what it read had the digest {recorded[key][:12]}, "
                f"what is there now has {digest[:12]}; {ANOTHER_FOLDER}"
            )


def _worded_digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        offered = [] if example.options is None else [example.options]
        digest.update(json.dumps([example.source, example.prompt, example.target, *offered]).encode() + b"\n")
    return digest.hexdigest()


def _configured_inputs(config: Config) -> dict[str, str]:
    """Key of the configuration -> digest of the file, folder or published model that it names; those that exist."""
    found = {key: data_digest(Path(path).expanduser()) for key, path in _paths(config).items()}
    for key, name in _models(config).items():
        revision = None if key == "checkpoint" else config.model.revision
        found[key] = _digest_model(name, revision)
        if base := _base_model(Path(name).expanduser()):
            found[f"{key}'s base model"] = _digest_model(*base)
    return {key: digest for key, digest in found.items() if digest}


def _paths(config: Config) -> dict[str, str]:
    """The data and the metrics' models that the stage reads, where they are files or folders."""
    keys = {"predict": ["inputs"], "score": ["predictions", "references", "sources"]}.get(config.run, [])
    named = {key: getattr(config, key) for key in keys}
    if config.run in ("all", "train", "evaluate"):
        named |= _data_paths(config)
    if config.run in ("all", "evaluate", "score"):
        keys = Facts(METRICS).model_keys(config.task.metrics)
        named |= {f"evaluation.{key}": getattr(config.evaluation, key) for key in keys}
    if config.run in ("all", "train"):
        named["trainer.arguments.deepspeed"] = config.trainer.arguments.deepspeed
    return {key: path for key, path in named.items() if path}


def _data_paths(config: Config) -> dict[str, str | None]:
    data, needed = config.data, needed_splits(config.run)
    if isinstance(data, HubData):
        return {f"data.{split}.path": getattr(data, split).path for split in needed}
    if not isinstance(data, LocalData):
        return {}
    files = {
        split: {f"{split}{form}": getattr(data, f"{split}{form}") for form in ("", "_source", "_target")}
        for split in ("train", *needed)
    }
    given = {split for split in needed if any(files[split].values())}
    read = given if given == set(needed) else given | {"train"}  # a split without a file is split off the training data
    return {f"data.{name}": path for split in read for name, path in files[split].items()}


def _models(config: Config) -> dict[str, str]:
    if config.checkpoint and config.run in ("evaluate", "predict"):
        return {"checkpoint": config.checkpoint}
    return {"model.pretrained": config.model.pretrained} if config.model.pretrained and config.run != "score" else {}


def _base_model(folder: Path) -> tuple[str, str | None] | None:
    """Name and revision of the model that a folder of adapters is to be put into; None for other folders."""
    file = folder / ADAPTER_FILE
    if not file.is_file():
        return None
    content = read_json(file)
    name = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    return (name, content.get("revision")) if isinstance(name, str) else None


def _digest_model(name: str, revision: str | None) -> str | None:
    """Of a checkpoint folder's own files; of a published model the commit that lies in the cache."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = [path for path in folder.iterdir() if path.suffix in MODEL_FILES and not path.name.startswith(".")]
        return folder_digest(folder, files)
    from huggingface_hub import try_to_load_from_cache  # here, so that --help need not wait for it
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:  # a path, and nothing is there any more
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None
