"""T5 and mT5: the encoder reads the source, the decoder writes warmup and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from warmup.models.families import (
    Encoded,
    Family,
    Model,
    additive,
    block_causal,
    in_one_piece,
    left_padded,
    recomputes,
    source_cache,
)
from warmup.models.tokenizers import text_ids


@dataclass
class _Decoding:
    """What `step` takes further: N rows."""

    states: Tensor  # encoder output [N, S, W]; only its shape is read, since the cache holds its keys and values
    mask: Tensor  # [N, S]
    cache: EncoderDecoderCache


class EncoderDecoder(Family):
    """T5 and mT5. Their position bias is relative, so a continuation looks the same wherever in a row it stands."""

    padding_side = "right"

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        return text_ids(tokenizer, text), [tokenizer.eos_token_id]

    def encode(self, model: Model, ids: Tensor, mask: Tensor, shared: bool = True) -> Encoded:
        """The decoder's keys and values of a source are kept where they will be read more than once and can be had."""
        states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        if recomputes(model) or not shared or not in_one_piece(model):
            return Encoded(ids, mask, states)
        return Encoded(ids, mask, states, tuple(_keys_and_values(block, states) for block in model.get_decoder().block))

    def reader(self, model: Model) -> Any:
        return model.get_decoder()

    def hidden(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        start = torch.full_like(continuations[..., :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, continuations[..., :-1]], dim=-1).flatten(1)
        blind = None  # a single continuation needs no more than the decoder's own causal mask
        if count > 1:
            allowed = block_causal(count, length, continuations.device).expand(batch, -1, -1)
            blind = additive(allowed, encoded.states.dtype)
        states = model.get_decoder()(
            input_ids=shifted,
            attention_mask=blind,
            encoder_hidden_states=encoded.states,
            encoder_attention_mask=encoded.mask,
            past_key_values=_cache(encoded) if encoded.cache else None,
            use_cache=bool(encoded.cache),
        ).last_hidden_state
        return _scaled(model, states).view(batch, count, length, -1)

    def prefill(self, model: Model, encoded: Encoded, times: int, limit: int) -> tuple[Tensor, Any]:
        cache = _cache(encoded)
        state = _Decoding(encoded.states, encoded.mask, cache)
        start = torch.full_like(encoded.ids[:, 0], model.config.decoder_start_token_id)
        logits = self.step(model, state, start)
        if times > 1:
            cache.batch_repeat_interleave(times)
            narrow = state.states[:, :, :1]  # no copy of what the cache holds already
            state = _Decoding(
                narrow.repeat_interleave(times, dim=0), encoded.mask.repeat_interleave(times, dim=0), cache
            )
        return logits, state

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        states = model.get_decoder()(
            input_ids=tokens[:, None],
            encoder_hidden_states=state.states,
            encoder_attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        return model.get_output_embeddings()(_scaled(model, states)[:, -1])

    def reorder(self, state: Any, rows: Tensor) -> Any:
        state.cache.self_attention_cache.reorder_cache(rows)  # the source's part is the same for all rows of an input
        return state

    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        start = model.config.decoder_start_token_id
        ids, mask = left_padded([[start, *row] for row in prefix], model.config.pad_token_id, encoded.ids.device)
        output = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=encoded.mask,
            decoder_input_ids=ids,
            decoder_attention_mask=mask,
            **settings,
        )
        return output[:, ids.shape[1] :].tolist()


def _keys_and_values(block: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """What a decoder block's cross-attention makes of the encoder's states [B, S, W]: [B, heads, S, size] each."""
    attention = block.layer[1].EncDecAttention
    shape = (*states.shape[:2], attention.n_heads, attention.key_value_proj_dim)
    keys, values = (layer(states).view(shape).transpose(1, 2) for layer in (attention.k, attention.v))
    return keys, values


def _cache(encoded: Encoded) -> EncoderDecoderCache:
    """A cache without any token yet, which has the sources' keys and values where they are known."""
    return EncoderDecoderCache(DynamicCache(), source_cache(encoded))


def _scaled(model: Model, states: Tensor) -> Tensor:
    """T5 with a shared output layer scales its input; transformers 5 has an attribute of its own for that."""
    scaled = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)
    return states * model.config.d_model**-0.5 if scaled else states
