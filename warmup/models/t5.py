"""T5 and mT5. Their position bias is relative, so a continuation looks the same wherever in a row it stands."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import MT5Config, PretrainedConfig, PreTrainedTokenizerBase, T5Config

from warmup.config.schema import ModelConfig
from warmup.models.encoder_decoder import EncoderDecoder
from warmup.models.families import Model

ATTENTION = ("q", "k", "v", "o")  # names of T5's projections


class T5(EncoderDecoder):
    """T5."""

    template = "$A </s>"
    config_class: ClassVar[Any] = T5Config
    feed_forward: ClassVar[str] = "relu"

    def fresh_config(
        self, size: ModelConfig, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int
    ) -> PretrainedConfig:
        return self.config_class(
            vocab_size=rows,
            d_model=size.width,
            d_kv=size.width // size.heads,
            d_ff=size.feed_forward,
            num_layers=size.layers,
            num_heads=size.heads,
            dropout_rate=size.dropout,
            initializer_factor=small_scale(size.width),
            feed_forward_proj=self.feed_forward,
            tie_word_embeddings=False,  # shared ones would have to be large for the one end and small for the other
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )

    @torch.no_grad()
    def initialise(self, model: Model) -> None:
        """Give T5's projections their usual scale again, or sources are noticed late."""
        for name, weight in model.named_parameters():
            if name.split(".")[-2] in ATTENTION:
                weight.div_(small_scale(model.config.d_model))

    def keys_and_values(self, model: Model, states: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        found = []
        for block in model.get_decoder().block:
            attention = block.layer[1].EncDecAttention
            shape = (*states.shape[:2], attention.n_heads, attention.key_value_proj_dim)
            keys, values = (layer(states).view(shape).transpose(1, 2) for layer in (attention.k, attention.v))
            found.append((keys, values))
        return tuple(found)

    def scaled(self, model: Model, states: Tensor) -> Tensor:
        """T5 with a shared output layer scales its input; transformers 5 has an attribute of its own for that."""
        scales = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)
        return states * model.config.d_model**-0.5 if scales else states


class MT5(T5):
    """mT5."""

    config_class: ClassVar[Any] = MT5Config
    feed_forward = "gated-gelu"


def small_scale(width: int) -> float:
    """What a fresh T5's weights are multiplied with, attention's projections apart.

    Hugging Face's scale is made for Adafactor: next to embeddings of unit variance, and norms of one, AdamW's steps are
    too small. docs/multi30k.md has what was measured.
    """
    return float(0.8 * width**-0.5)
