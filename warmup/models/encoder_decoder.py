"""Encoder-decoders: the encoder reads the source, the decoder writes warmup and target. One file has each kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from warmup.errors import UserError
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
from warmup.models.generation import generated
from warmup.models.tokenizers import text_ids

Placement = Callable[[Tensor, int], Tensor]  # tokens [N, T] that follow so many cached ones -> positions [N, T]


@dataclass
class _DecoderState:
    """What `step` takes further: N rows."""

    states: Tensor  # encoder output [N, S, W]; only its shape is read, since the cache holds its keys and values
    mask: Tensor  # [N, S]
    cache: EncoderDecoderCache


class EncoderDecoder(Family):
    """What encoder-decoders have in common; a kind says where its parts are.

    Read as Hugging Face's T5 and BART are: `get_encoder()` and `get_decoder()` take what is passed to them below, the
    decoder an `EncoderDecoderCache`, whose cross-attention part is filled by `keys_and_values`.
    """

    auto = AutoModelForSeq2SeqLM
    is_encoder_decoder = True
    has_dropout = True
    padding_side = "right"

    @abstractmethod
    def keys_and_values(self, model: Model, states: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """What each layer's cross-attention makes of the encoder's states [B, S, W]: [B, heads, S, size] each."""

    def placed(self, model: Model, place: Placement) -> AbstractContextManager[None]:
        """While the decoder reads tokens that stand elsewhere than their column says; relative positions need none."""
        return nullcontext()

    def scaled(self, model: Model, states: Tensor) -> Tensor:
        """What the output layer reads of the decoder's states [..., W]."""
        return states

    def start_ids(self, model: Model) -> list[int]:
        return [model.config.decoder_start_token_id]

    def prepare(
        self, model: Model, tokenizer: PreTrainedTokenizerBase, languages: tuple[str | None, str | None]
    ) -> None:
        if model.config.decoder_start_token_id is None:
            raise UserError(f"the {model.config.model_type} has no decoder_start_token_id in its config.json")

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        return text_ids(tokenizer, text), [tokenizer.eos_token_id]

    def encode(self, model: Model, ids: Tensor, mask: Tensor, shared: bool = True) -> Encoded:
        """The decoder's keys and values of a source are kept where they will be read more than once and can be had."""
        states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        if recomputes(model) or not shared or not in_one_piece(model):
            return Encoded(ids, mask, states)
        return Encoded(ids, mask, states, self.keys_and_values(model, states))

    def reader(self, model: Model) -> Any:
        return model.get_decoder()

    def hidden(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        rows = self._after_start(model, continuations)
        ahead = rows.shape[-1] - length
        blind = None  # a single continuation needs no more than the decoder's own causal mask
        if count > 1:
            allowed = block_causal(count, ahead + length, continuations.device).expand(batch, -1, -1)
            blind = additive(allowed, encoded.states.dtype)
        inside = torch.arange(ahead + length, device=continuations.device).repeat(count).expand(batch, -1)
        with self.placed(model, lambda *_: inside):
            states = model.get_decoder()(
                input_ids=rows.flatten(1),
                attention_mask=blind,
                encoder_hidden_states=encoded.states,
                encoder_attention_mask=encoded.mask,
                past_key_values=_cache(encoded) if encoded.cache else None,
                use_cache=bool(encoded.cache),
            ).last_hidden_state
        return self.scaled(model, states.view(batch, count, ahead + length, -1)[:, :, ahead:])

    def plain_logits(self, model: Model, ids: Tensor, mask: Tensor, continuations: Tensor, kept: Tensor) -> Tensor:
        rows = self._after_start(model, continuations)
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=rows, use_cache=False).logits
        return logits[:, rows.shape[-1] - continuations.shape[-1] :]

    def _after_start(self, model: Model, continuations: Tensor) -> Tensor:
        """What the decoder reads to predict continuations [..., L]: the start, then all tokens but the last."""
        start = [torch.full_like(continuations[..., :1], token) for token in self.start_ids(model)]
        return torch.cat([*start, continuations[..., :-1]], dim=-1)

    def prefill(self, model: Model, encoded: Encoded, times: int, limit: int) -> tuple[Tensor, Any]:
        cache = _cache(encoded)
        state = _DecoderState(encoded.states, encoded.mask, cache)
        logits = self._read(model, state, self._after_start(model, encoded.ids[:, :1]))
        if times > 1:
            cache.batch_repeat_interleave(times)
            narrow = state.states[:, :, :1]  # no copy of what the cache holds already
            state = _DecoderState(
                narrow.repeat_interleave(times, dim=0), encoded.mask.repeat_interleave(times, dim=0), cache
            )
        return logits, state

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        return self._read(model, state, tokens[:, None])

    def _read(self, model: Model, state: _DecoderState, tokens: Tensor) -> Tensor:
        """Append tokens [N, T] and return the next one's logits [N, V]."""
        states = model.get_decoder()(
            input_ids=tokens,
            encoder_hidden_states=state.states,
            encoder_attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        return self.logits(model, self.scaled(model, states[:, -1]))

    def reorder(self, state: Any, rows: Tensor) -> Any:
        state.cache.self_attention_cache.reorder_cache(rows)  # the source's part is the same for all rows of an input
        return state

    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        start = self.start_ids(model)
        ids, mask = left_padded([[*start, *row] for row in prefix], model.config.pad_token_id, encoded.ids.device)
        padding = (mask == 0).sum(-1, keepdim=True)

        def place(tokens: Tensor, cached: int) -> Tensor:
            columns = torch.arange(cached, cached + tokens.shape[1], device=tokens.device)
            beams = padding.repeat_interleave(len(tokens) // len(padding), dim=0)
            return (columns - beams).clamp(min=0)

        known = {"past_key_values": _cache(encoded)} if encoded.cache and settings["num_beams"] == 1 else {}
        with self.placed(model, place):
            output = generated(
                model,
                settings,
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
                attention_mask=encoded.mask,
                decoder_input_ids=ids,
                decoder_attention_mask=mask,
                **known,
            )
        return output[:, ids.shape[1] :].tolist()


def _cache(encoded: Encoded) -> EncoderDecoderCache:
    """A cache without any token yet, which has the sources' keys and values where they are known."""
    return EncoderDecoderCache(DynamicCache(), source_cache(encoded))
