"""Mistral and Qwen2: Llama with sliding windows, which our own masks must keep to."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import MistralConfig, Qwen2Config

from warmup.models.decoder_only import DecoderOnly
from warmup.models.families import Model


class Mistral(DecoderOnly):
    """Mistral: no token looks further back than `sliding_window` says, itself included."""

    config_class: ClassVar[Any] = MistralConfig

    def attention_mask(self, model: Model, allowed: Tensor, queries: Tensor, keys: Tensor) -> Any:
        window = model.config.sliding_window
        near = allowed if window is None else allowed & (queries[:, :, None] - keys[:, None] < window)
        return super().attention_mask(model, near, queries, keys)


class Qwen2(Mistral):
    """Qwen2: some layers, all or none look back so far only."""

    config_class: ClassVar[Any] = Qwen2Config

    def attention_mask(self, model: Model, allowed: Tensor, queries: Tensor, keys: Tensor) -> Any:
        whole = DecoderOnly.attention_mask(self, model, allowed, queries, keys)
        if "sliding_attention" not in model.config.layer_types:
            return whole
        near = super().attention_mask(model, allowed, queries, keys)
        return {"full_attention": whole, "sliding_attention": near}
