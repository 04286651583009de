"""BART: learned absolute positions, and a bias on the logits that no gradient reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BartConfig, PretrainedConfig, PreTrainedTokenizerBase

from warmup.config.schema import ModelConfig
from warmup.models.encoder_decoder import EncoderDecoder, Placement
from warmup.models.families import Model


class Bart(EncoderDecoder):
    """BART. A position belongs to a place in a continuation, so continuations in one row begin anew each."""

    template = "<s> $A </s>"
    config_class: ClassVar[Any] = BartConfig

    def fresh_config(
        self, size: ModelConfig, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int
    ) -> PretrainedConfig:
        return self.config_class(
            vocab_size=rows,
            d_model=size.width,
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            encoder_attention_heads=size.heads,
            decoder_attention_heads=size.heads,
            encoder_ffn_dim=size.feed_forward,
            decoder_ffn_dim=size.feed_forward,
            dropout=size.dropout,
            max_position_embeddings=max(longest, 512),
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        ids, _ = super().source_ids(tokenizer, text, separator_id)
        around = tokenizer("")["input_ids"]  # `<s> </s>`; of mBART `</s> language`, or `language </s>`
        end = around.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in around else len(around)
        return [*around[:end], *ids], around[end:] or [tokenizer.eos_token_id]

    @torch.no_grad()
    def restored(self, model: Model, missing: set[str]) -> set[str]:
        """A model begins with one embedding for source and target, saved once; untied ones are loaded one by one."""
        shared = model.get_input_embeddings().weight
        names = missing & {f"model.{part}.embed_tokens.weight" for part in ("encoder", "decoder")}
        for name in names:
            model.get_parameter(name).copy_(shared)
        return names

    def most_positions(self, model: Model) -> int | None:
        return model.config.max_position_embeddings

    @contextmanager
    def placed(self, model: Model, place: Placement) -> Iterator[None]:
        table = model.get_decoder().embed_positions

        def looked_up(tokens: Tensor, cached: int = 0, **_: object) -> Tensor:
            return nn.functional.embedding(place(tokens, cached) + table.offset, table.weight)

        table.forward = looked_up  # its own knows no positions that differ between rows
        try:
            yield
        finally:
            del table.forward

    def keys_and_values(self, model: Model, states: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        found = []
        for layer in model.get_decoder().layers:
            attention = layer.encoder_attn
            shape = (*states.shape[:2], attention.num_heads, attention.head_dim)
            keys, values = (part(states).view(shape).transpose(1, 2) for part in (attention.k_proj, attention.v_proj))
            found.append((keys, values))
        return tuple(found)

    def output_bias(self, model: Model) -> Tensor | None:
        return model.final_logits_bias[0]

    def logits(self, model: Model, states: Tensor) -> Tensor:
        return super().logits(model, states) + model.final_logits_bias
