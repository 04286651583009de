"""Reading checkpoints: nothing of one is used before it is known to be whole, and of a type that we know."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig, GenerationConfig, PretrainedConfig
from transformers.utils import cached_file

from warmup.errors import UserError, first_line, wrong_value
from warmup.files import read_json
from warmup.models.families import Family, Model
from warmup.models.generation import FILE, neutral_settings, settings_in, without_settings
from warmup.models.model_types import family_of

log = logging.getLogger(__name__)
MOST_LAYERS = 10_000
NAMED = 3  # tensors of each fault


@dataclass
class OwnSettings:
    """Generation settings that a checkpoint came with, as its files say them: kept for saving, and not used."""

    in_config: dict[str, Any] = field(default_factory=dict)  # of config.json
    file: dict[str, Any] | None = None  # generation_config.json

    def not_used(self) -> dict[str, Any]:
        """Those that would have changed answers."""
        return {**self.in_config, **settings_in(self.file or {})}


@dataclass(frozen=True)
class Checkpoint:
    """A model with all its weights, in evaluation mode and float32."""

    model: Model
    family: Family
    own_settings: OwnSettings


def read_checkpoint(name: str, in_4bit: bool = False, **where: Any) -> Checkpoint:
    """The model of a folder or of the hub; `where` as `from_pretrained` takes it (revision, local_files_only).

    Args:
        in_4bit: its linear layers but the output layer are rounded to NormalFloat (Dettmers et al. 2023, section 3).

    Raises:
        UserError: a type that is not in the table; tensors that are missing, left over, of another shape or not finite.
        Exception: whatever transformers raises where files are missing or broken.
    """
    raw, _ = PretrainedConfig.get_config_dict(name, **where)
    family = family_of(raw, name)
    in_config, file = settings_in(raw), _generation_file(name, **where)
    config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    _check_layers(name, config)
    without_settings(config, in_config)
    config.return_dict = True
    if in_4bit:
        where["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
    model, info = family.auto.from_pretrained(
        name,
        config=config,
        dtype=torch.float32,
        generation_config=GenerationConfig(),  # or transformers reads, and checks, the checkpoint's
        trust_remote_code=False,
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        **where,
    )
    for part in model.modules():
        if hasattr(
            part, "support_avx512bf16_for_cpu"
        ):  # bitsandbytes would round its scales to bfloat16 as well, for good
            part.support_avx512bf16_for_cpu = False
    info["missing_keys"] = set(info["missing_keys"]) - family.restored(model, set(info["missing_keys"]))
    _check_complete(name, info)
    _check_finite(name, model)
    model.generation_config = neutral_settings(model.config)
    return Checkpoint(model, family, _own_settings(name, in_config, file))


def _check_layers(name: str, config: PretrainedConfig) -> None:
    """Refuse what would be built for ever before it could be compared with the weights."""
    for key in ("num_hidden_layers", "num_decoder_layers", "decoder_layers", "encoder_layers"):
        layers = getattr(config, key, None)
        if layers is not None and not (isinstance(layers, int) and 1 <= layers <= MOST_LAYERS):
            raise wrong_value(f"config.json of {name}: {key}", layers, f"1 to {MOST_LAYERS}")


def _own_settings(name: str, in_config: dict[str, Any], file: dict[str, Any] | None) -> OwnSettings:
    """What can be put back, so that transformers loads the model when it is saved again."""
    try:
        for content in (in_config, file or {}):
            GenerationConfig.from_dict(content)
    except Exception as error:  # it checks some values by raising whatever comes
        log.warning("the generation settings of %s are not used, and not kept either: %s", name, first_line(error))
        return OwnSettings()
    return OwnSettings(in_config, file)


def _generation_file(name: str, **where: Any) -> dict[str, Any] | None:
    found = cached_file(name, FILE, _raise_exceptions_for_missing_entries=False, **where)
    if found is None:
        return None
    content = read_json(Path(found))
    if not isinstance(content, dict):
        raise UserError(f"{found} is not a JSON object: mend it, or remove it, since nothing of it is used")
    return content


def _check_complete(name: str, info: dict[str, Any]) -> None:
    """Refuse what Hugging Face reports: it would go on with new random weights, or without some of the file's."""
    # transformers 5 tells both shapes beside each name
    mismatched = sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])
    faults = [
        _named("missing", sorted(info["missing_keys"])),
        _named("of another shape", mismatched),
        _named("not of this model", sorted(info["unexpected_keys"])),
        _named("unreadable", [first_line(Exception(message)) for message in info.get("error_msgs") or []]),
    ]
    if any(faults):
        raise UserError(f"the weights of {name} do not fit its config.json: {'; '.join(filter(None, faults))}")


def _check_finite(name: str, model: Model) -> None:
    tensors = model.state_dict().items()
    broken = [key for key, value in tensors if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f"the weights of {name} are not all finite: {_named('NaN or infinite', broken)}")


def _named(fault: str, found: list[str]) -> str:
    """`2 missing (a, b)`, or nothing."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{len(found)} {fault} ({', '.join(found[:NAMED])}{more})" if found else ""
