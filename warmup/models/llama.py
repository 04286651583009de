"""Llama 1 to 3."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlamaConfig

from warmup.models.decoder_only import DecoderOnly


class Llama(DecoderOnly):
    """Llama: every token looks at all before it."""

    config_class: ClassVar[Any] = LlamaConfig
