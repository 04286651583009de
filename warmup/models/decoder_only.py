"""Llama: one sequence, `x <sep> c <sep> y`, read by one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from warmup.models.families import (
    Encoded,
    Family,
    Model,
    additive,
    block_causal,
    left_padded,
    recomputes,
    source_cache,
)
from warmup.models.tokenizers import text_ids


@dataclass
class _Decoding:
    """What `step` takes further: N rows."""

    mask: Tensor  # [N, prompt and what was appended]
    positions: Tensor  # [N, 1] of the next token
    cache: DynamicCache


class DecoderOnly(Family):
    """Llama. The prompt is padded on the left by the collator; padding on the right is read just as well."""

    padding_side = "left"

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return beginning + text_ids(tokenizer, text), [separator_id]

    def encode(self, model: Model, ids: Tensor, mask: Tensor, shared: bool = True) -> Encoded:
        """Keys and values are kept where they will be read more than once, and where the model can give them.

        With gradient checkpointing it cannot: `hidden` then reads source and continuations in one row.
        """
        if recomputes(model) or not shared:
            return Encoded(ids, mask, None)
        cache = DynamicCache()
        states = model.get_decoder()(
            input_ids=ids, attention_mask=mask, position_ids=_positions(mask), past_key_values=cache, use_cache=True
        ).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        kept: Any = tuple((layer.keys, layer.values) for layer in cache.layers)
        return Encoded(ids, mask, states[rows, _last(mask)], kept)

    def reader(self, model: Model) -> Any:
        return model

    def hidden(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        if encoded.states is None:
            return self._hidden_in_one_row(model, encoded, continuations, mask)
        batch, count, length = continuations.shape
        first = encoded.states[:, None, None].expand(-1, count, 1, -1)
        if length == 1:
            return first
        length -= 1  # the last token predicts nothing that is asked for
        allowed = torch.cat(
            [
                encoded.mask.bool()[:, None].expand(-1, count * length, -1),
                block_causal(count, length, mask.device).expand(batch, -1, -1),
            ],
            dim=-1,
        )
        inside = torch.arange(length, device=mask.device).repeat(count)
        states = model.get_decoder()(
            input_ids=continuations[..., :-1].flatten(1),
            attention_mask=additive(allowed, encoded.states.dtype),
            position_ids=encoded.mask.sum(-1, keepdim=True) + inside,
            past_key_values=source_cache(encoded),
            use_cache=True,
        ).last_hidden_state
        return torch.cat([first, states.view(batch, count, length, -1)], dim=2)

    def _hidden_in_one_row(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        prompt = encoded.ids.shape[1]
        inside = torch.arange(length, device=mask.device).repeat(count)  # position in its own continuation
        attended = torch.cat([encoded.mask, mask.flatten(1).to(encoded.mask.dtype)], dim=1)
        if count > 1:
            attended = additive(_allowed(encoded.mask, count, length), self.output_weight(model).dtype)
        states = model.get_decoder()(
            input_ids=torch.cat([encoded.ids, continuations.flatten(1)], dim=1),
            attention_mask=attended,
            position_ids=torch.cat([_positions(encoded.mask), encoded.mask.sum(-1, keepdim=True) + inside], dim=1),
            use_cache=False,
        ).last_hidden_state
        rows = torch.arange(batch, device=mask.device)
        first = states[rows, _last(encoded.mask)][:, None, None].expand(-1, count, 1, -1)
        written = states[:, prompt:].view(batch, count, length, -1)
        return torch.cat([first, written[:, :, :-1]], dim=2)  # the token before each one predicts it

    def prefill(self, model: Model, encoded: Encoded, times: int, limit: int) -> tuple[Tensor, Any]:
        cache = source_cache(encoded)
        if times > 1:
            cache.batch_repeat_interleave(times)
        mask = encoded.mask.repeat_interleave(times, dim=0)
        logits = model.get_output_embeddings()(encoded.states)
        return logits, _Decoding(mask, mask.sum(-1, keepdim=True), cache)

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        state.mask = torch.cat([state.mask, torch.ones_like(state.mask[:, :1])], dim=1)
        states = model.get_decoder()(
            input_ids=tokens[:, None],
            attention_mask=additive(state.mask.bool()[:, None], self.output_weight(model).dtype),
            position_ids=state.positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        state.positions = state.positions + 1
        return model.get_output_embeddings()(states[:, -1])

    def reorder(self, state: Any, rows: Tensor) -> Any:
        state.cache.reorder_cache(rows)
        return state

    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        sources = [ids[kept.bool()].tolist() for ids, kept in zip(encoded.ids, encoded.mask, strict=True)]
        rows = [source + row for source, row in zip(sources, prefix, strict=True)]
        ids, mask = left_padded(rows, model.config.pad_token_id, encoded.ids.device)
        return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :].tolist()


def _allowed(prompt_mask: Tensor, count: int, length: int) -> Tensor:
    """[B, T, T] for prompt and continuations in one row: who may attend to whom."""
    batch, prompt = prompt_mask.shape
    total = prompt + count * length
    allowed = torch.zeros(batch, total, total, dtype=torch.bool, device=prompt_mask.device)
    allowed[:, :, :prompt] = prompt_mask.bool()[:, None, :]
    allowed[:, :prompt] &= torch.ones(prompt, total, dtype=torch.bool, device=prompt_mask.device).tril()
    allowed[:, prompt:, prompt:] = block_causal(count, length, prompt_mask.device)
    return allowed | torch.eye(total, dtype=torch.bool, device=prompt_mask.device)  # a row of nothing would be NaN


def _positions(mask: Tensor) -> Tensor:
    """Position of each token in its row, padding not counted."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def _last(mask: Tensor) -> Tensor:
    """[B] column of each row's last token."""
    return mask.shape[1] - 1 - mask.flip(-1).argmax(dim=-1)
