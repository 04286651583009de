"""What a run writes down before it has results: typed records of its folder, each written and read here alone.

A missing file reads as an empty record, since a folder may be of an older version; a broken one names itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from warmup.config.environment import described
from warmup.display import without_secrets
from warmup.errors import UserError
from warmup.files import read_json, write_json, write_text
from warmup.runs.file_names import RunFile


def broken(path: Path, cause: object) -> UserError:
    """The line on a file that does not hold what a run writes."""
    return UserError(f"{path} is not what a run writes ({cause})")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file.

    Raises:
        UserError: the file holds something else.
    """
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise broken(path, "no JSON object")
    return record


def plain_line(value: Any) -> str:
    """A text on one line without control characters, which a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())


@dataclass(frozen=True)
class RunConfiguration:
    """`config.yaml`: the resolved configuration, nested as in YAML, but for what the environment gave."""

    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = field(default="", repr=False)

    @classmethod
    def of(cls, composed: DictConfig) -> RunConfiguration:
        """As `read` gives it back, so that the two can be compared."""
        text = yaml.safe_dump(described(composed), allow_unicode=True, sort_keys=False)
        return cls(_parsed(text), text)

    def write(self, folder: Path) -> None:
        """Write the text."""
        write_text(folder / RunFile.CONFIG, self.text)

    @classmethod
    def read(cls, folder: Path) -> RunConfiguration:
        """What is in `folder`.

        Raises:
            UserError: the file cannot be read or is no mapping.
        """
        path = folder / RunFile.CONFIG
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            values = _parsed(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise broken(path, error) from error
        if not isinstance(values, dict):
            raise broken(path, "no mapping")
        return cls(values, text)


def _parsed(text: str) -> Any:
    values = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {} if values is None else values


@dataclass(frozen=True)
class Inputs:
    """`inputs.json`: a digest of each thing that the run read, by the key that names it."""

    digests: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the digests."""
        write_json(folder / RunFile.INPUTS, self.digests)

    @classmethod
    def read(cls, folder: Path) -> Inputs:
        """What is in `folder`.

        Raises:
            UserError: the file holds something else.
        """
        return cls({key: str(digest) for key, digest in read_json_object(folder / RunFile.INPUTS).items()})


@dataclass(frozen=True)
class Environment:
    """`environment.json`: what a run was made with; None where nobody knows.

    Attributes:
        device: the GPU's name, or "cpu".
        precision: that trainings compute in, `float32` or `bfloat16`.
        processor: the CPU's name.
        threads: of torch.
        processes: that torchrun or accelerate started; 1 without them.
        git_commit: the code's, with `+changes` where the working tree differs from it.
        packages: version by name.
    """

    python: str | None = None
    platform: str | None = None
    device: str | None = None
    precision: str | None = None
    processor: str | None = None
    threads: int | None = None
    processes: int | None = None
    git_commit: str | None = None
    packages: Mapping[str, str | None] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write all of it."""
        write_json(folder / RunFile.ENVIRONMENT, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Environment:
        """What is in `folder`; what other versions wrote besides is left out.

        Raises:
            UserError: the file holds something else.
        """
        record = read_json_object(folder / RunFile.ENVIRONMENT)
        return cls(**{known.name: record[known.name] for known in fields(cls) if known.name in record})


@dataclass(frozen=True)
class Failure:
    """`error.txt`: why a run failed, in one line."""

    line: str

    def write(self, folder: Path) -> None:
        """Write the line; where even that fails, the disk is full, which `line` says already."""
        try:
            write_text(folder / RunFile.FAILURE, without_secrets(self.line) + "\n")
        except UserError:
            return

    @classmethod
    def read(cls, folder: Path) -> Failure:
        """The reason, or why it cannot be told."""
        try:
            text = (folder / RunFile.FAILURE).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return cls(f"its reason cannot be read: {error.strerror or error}")
        return cls(plain_line(text) or "it left no reason")
