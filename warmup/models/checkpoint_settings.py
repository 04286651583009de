"""How a checkpoint answers, kept beside its weights in warmup_config.json.

Its length limits, its wording, and how its warmups are distributed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from warmup.config.schema import Config, PauseMethod, WarmupMethod
from warmup.config.task import MOST_TOKENS
from warmup.data.examples import Wording
from warmup.errors import UserError, wrong_value
from warmup.files import read_json, write_json
from warmup.models.sequence_format import SequenceFormat
from warmup.models.sharpening import Sharpening

SETTINGS_FILE = "warmup_config.json"
FORMAT = 1  # of that file
Part = TypeVar("Part")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Lengths in tokens; `warmup` None stands for a model that writes no warmup, `pauses` None for one without."""

    source: int
    warmup: int | None
    target: int
    pauses: int | None = None  # given before the target, always as many


@dataclass(frozen=True)
class CheckpointSettings:
    """What a model was trained with, and answers with whatever the command says."""

    limits: Limits
    wording: Wording
    sequence: SequenceFormat = SequenceFormat()
    sharpening: Sharpening = Sharpening()  # of warmups
    base_in_4bit: bool = False  # what the adapters were trained beside

    @property
    def method(self) -> str:
        """`sft`, `pause` or `warmup`."""
        if self.limits.warmup is not None:
            return "warmup"
        return "sft" if self.limits.pauses is None else "pause"

    @classmethod
    def from_config(cls, config: Config) -> CheckpointSettings:
        """What a model that `config` trains will answer with."""
        warmup, sharpening, method = None, Sharpening(), config.method
        if isinstance(method, WarmupMethod):
            warmup, sharpening = method.max_warmup_tokens, Sharpening.of_method(method)
        pauses = method.num_tokens if isinstance(method, PauseMethod) else None
        limits = Limits(config.task.max_source_tokens, warmup, config.task.max_target_tokens, pauses)
        rounded = bool(config.model.load_in_4bit)
        return cls(limits, Wording.from_config(config.task), sharpening=sharpening, base_in_4bit=rounded)

    @classmethod
    def read(cls, checkpoint: str) -> CheckpointSettings | None:
        """Those beside a checkpoint; None for a model that this program did not train.

        Raises:
            UserError: the file is broken, or of another version.
        """
        file = Path(checkpoint).expanduser() / SETTINGS_FILE
        if not file.is_file():
            return None
        content = read_json(file)
        known = isinstance(content, dict) and content.get("format") == FORMAT
        if not known or not {"limits", "wording"} <= content.keys():
            raise UserError(
                f"{file} is not what this version writes (format {FORMAT}): evaluate with the version that wrote it"
            )
        limits = _part(Limits, content["limits"], f"{file}: limits")
        for name, limit in vars(limits).items():
            if limit is not None and not 1 <= limit <= MOST_TOKENS:
                raise wrong_value(f"{file}: limits.{name}", limit, f"1 to {MOST_TOKENS} tokens")
        if limits.warmup is not None and limits.pauses is not None:
            raise wrong_value(f"{file}: limits.pauses", limits.pauses, "null beside limits.warmup")
        wording = _wording(content["wording"], file)
        sequence = _part(SequenceFormat, content.get("sequence", {}), f"{file}: sequence")
        if not sequence.separator:
            raise wrong_value(f"{file}: sequence.separator", "", "a text that ends a warmup")
        # versions without the section knew no other distribution than the model's softmax
        sharpening = _part(Sharpening, content.get("sharpening", {}), f"{file}: sharpening")
        if not 0 < sharpening.temperature < float("inf"):
            raise wrong_value(f"{file}: sharpening.temperature", sharpening.temperature, "a number above 0")
        if not 0 < sharpening.top_p <= 1:
            raise wrong_value(f"{file}: sharpening.top_p", sharpening.top_p, "above 0, up to 1")
        rounded = content.get("base_in_4bit", False)
        if not isinstance(rounded, bool):
            raise wrong_value(f"{file}: base_in_4bit", rounded, "true or false")
        return cls(limits, wording, sequence, sharpening, rounded)

    def write(self, checkpoint: Path) -> None:
        """Into the folder of a checkpoint."""
        head = {"format": FORMAT, "method": self.method}
        write_json(checkpoint / SETTINGS_FILE, {**head, **asdict(self)})

    def check_asked(self, asked: CheckpointSettings) -> None:
        """Say in one line what these, which are used, have otherwise than the command, which `asked` for its own.

        What is of warmups or pauses is not compared where one side has none: another method is no mistake.

        Raises:
            UserError: the checkpoint was trained on another task, whose fields and metrics are not the command's.
        """
        if self.wording.task != asked.wording.task:
            allowed = f"{self.wording.task}, which this checkpoint was trained on"
            raise wrong_value("task.name", asked.wording.task, allowed)
        keys = {
            "source": "task.max_source_tokens",
            "warmup": "method.max_warmup_tokens",
            "pauses": "method.num_tokens",
            "target": "task.max_target_tokens",
        }
        pairs = [(key, getattr(self.limits, name), getattr(asked.limits, name)) for name, key in keys.items()]
        pairs = [pair for pair in pairs if None not in pair]
        if self.method == asked.method:
            for name in ("temperature", "top_p", "vocabulary"):
                used, given = getattr(self.sharpening, name), getattr(asked.sharpening, name)
                pairs.append((f"method.warmup_{name}", used, given))
        for name in ("source_template", "target_template", "source_language", "target_language", "options"):
            pairs.append((f"task.{name}", getattr(self.wording, name), getattr(asked.wording, name)))
        other = [f"{key} is {used!r}, not {given!r}" for key, used, given in pairs if used != given]
        if other:
            log.warning("the checkpoint answers as it was trained: %s", "; ".join(other))


def _wording(content: Any, file: Path) -> Wording:
    """A wording by which records can be worded.

    Raises:
        UserError: naming the file.
    """
    try:
        wording = _part(Wording, _with_options(content), "wording")
        target_fields, _ = wording.target_fields, wording.source_fields
        if wording.options is not None:
            wording.options.check(target_fields)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return wording


def _with_options(wording: Any) -> Any:
    """Versions that gave no task but LogiQA options did not write which they were."""
    if not isinstance(wording, Mapping) or "options" in wording or wording.get("task") != "logiqa":
        return wording
    return {**wording, "options": {"field": "options", "answer": "answer", "labels": ["A", "B", "C", "D"]}}


def _part(kind: type[Part], content: Any, where: str) -> Part:
    """`content` of the file as the dataclass `kind`, field by field."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where} is not a JSON object")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise UserError(f"{where} has {name!r}; allowed: {', '.join(known)}")
    for name, field in known.items():
        if name not in content and field.default is MISSING:
            raise UserError(f"{where} has no {name!r}")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` of the file, which must be of the annotated type."""
    for kind in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
            return _part(kind, value, where)
        if isinstance(value, get_origin(kind) or kind) and not isinstance(value, bool):
            return [_value(part, one, where) for part in get_args(kind) for one in value] if get_args(kind) else value
    raise wrong_value(where, value, getattr(hint, "__name__", str(hint)))
