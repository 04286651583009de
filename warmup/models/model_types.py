"""The models that there are: `model_type` of a config.json, and the family that uses it rightly."""

from __future__ import annotations

from typing import Any

from warmup.errors import UserError, nearest
from warmup.models.bart import Bart
from warmup.models.families import Family
from warmup.models.llama import Llama
from warmup.models.mbart import MBart
from warmup.models.mistral import Mistral, Qwen2
from warmup.models.t5 import MT5, T5

FAMILIES: dict[str, type[Family]] = {
    "t5": T5,
    "mt5": MT5,
    "bart": Bart,
    "mbart": MBart,
    "llama": Llama,
    "mistral": Mistral,
    "qwen2": Qwen2,
}


def family_of(config: dict[str, Any], name: str) -> Family:
    """A new family for the model whose config.json says `config`.

    Raises:
        UserError: it is of another type, or only one half of a model.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"{name} is of the model type {kind}, whose likelihood this program does not know; "
            f"allowed: {', '.join(FAMILIES)}{nearest(kind, FAMILIES)}"
        )
    family = FAMILIES[kind]()
    halves = any("Encoder" in architecture for architecture in config.get("architectures") or [])
    if halves or config.get("is_encoder_decoder", family.is_encoder_decoder) != family.is_encoder_decoder:
        raise UserError(f"{name} is only one half of a {kind}: its encoder and its decoder are needed")
    return family
