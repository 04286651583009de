"""Decoding does what `evaluation.*` says and nothing else, whatever settings a published model comes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, PretrainedConfig

from warmup.models.families import Model

FILE = "generation_config.json"
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
NO_SETTINGS = {*TOKENS, "use_cache", "transformers_version", "_from_model_config"}  # these files have them too


def settings_in(content: dict[str, Any]) -> dict[str, Any]:
    """What a config.json or generation_config.json says of decoding, neutral values left out."""
    neutral = GenerationConfig().to_dict()
    return {
        key: value
        for key, value in content.items()
        if key in neutral and key not in NO_SETTINGS and value is not None and value != neutral[key]
    }


def without_settings(config: PretrainedConfig, settings: dict[str, Any]) -> None:
    """Take settings out of a model's configuration, where older checkpoints have them."""
    blank = type(config)()
    for key in settings:
        if hasattr(blank, key):
            setattr(config, key, getattr(blank, key))
        elif hasattr(config, key):
            delattr(config, key)


def neutral_settings(config: PretrainedConfig, **settings: Any) -> GenerationConfig:
    """The tokens that a plain `generate` needs, and no setting but those given."""
    return GenerationConfig(**{name: getattr(config, name, None) for name in TOKENS} | settings)


@contextmanager
def own_settings_aside(model: Model) -> Iterator[None]:
    """While nothing is read from the model's own generation settings: transformers fills gaps from there."""
    kept = model.generation_config
    model.generation_config = neutral_settings(model.config)
    try:
        yield
    finally:
        model.generation_config = kept


def generated(model: Model, settings: dict[str, Any], **inputs: Any) -> Tensor:
    """[N, prompt and what was written] by `model.generate`, with `settings` alone.

    A `logits_processor` among them is no setting of a GenerationConfig.
    """
    plain = {name: value for name, value in settings.items() if name != "logits_processor"}
    if plain != settings:
        inputs["logits_processor"] = settings["logits_processor"]
    with own_settings_aside(model):
        return model.generate(generation_config=neutral_settings(model.config, **plain), **inputs)
