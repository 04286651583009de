"""Causal language models: one sequence, `x <sep> c <sep> y`, read by one model. One file has each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from warmup.config.schema import ModelConfig
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
from warmup.models.generation import generated
from warmup.models.tokenizers import text_ids


@dataclass
class _RowState:
    """What `step` takes further: N rows."""

    mask: Tensor  # [N, prompt and what was appended]
    positions: Tensor  # [N, 1] of the next token
    cache: DynamicCache


class DecoderOnly(Family):
    """What causal models have in common; a kind says how a fresh one is made, and who may look at whom.

    Read as Hugging Face's Llama is: `get_decoder()` takes `position_ids`, which are all that it knows of places (rotary
    embeddings), a 4-D `attention_mask` that is added to the scores, and a `DynamicCache`. The collator pads on the
    left; padding on the right is read as well.
    """

    auto = AutoModelForCausalLM
    is_encoder_decoder = False
    has_dropout = False
    padding_side = "left"
    template = "<s> $A"
    config_class: ClassVar[Any]  # of transformers; `fresh_config` is for those that name sizes as Llama does

    def fresh_config(
        self, size: ModelConfig, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int
    ) -> PretrainedConfig:
        return self.config_class(
            vocab_size=rows,
            hidden_size=size.width,
            intermediate_size=size.feed_forward,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=max(longest, 512),
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )

    def attention_mask(self, model: Model, allowed: Tensor, queries: Tensor, keys: Tensor) -> Any:
        """What attention adds, where `allowed` [B, T, T'] says who may look at whom.

        Tokens that look stand at positions `queries` [B, T], those that are looked at, at `keys` [B, T'].
        """
        return additive(allowed, model.dtype)

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
        places = encoded.mask.sum(-1, keepdim=True) + torch.arange(length, device=mask.device).repeat(count)
        keys = torch.cat([_positions(encoded.mask), places], dim=1)
        states = model.get_decoder()(
            input_ids=continuations[..., :-1].flatten(1),
            attention_mask=self.attention_mask(model, allowed, places, keys),
            position_ids=places,
            past_key_values=source_cache(encoded),
            use_cache=True,
        ).last_hidden_state
        return torch.cat([first, states.view(batch, count, length, -1)], dim=2)

    def _hidden_in_one_row(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        prompt = encoded.ids.shape[1]
        inside = torch.arange(length, device=mask.device).repeat(count)  # position in its own continuation
        places = torch.cat([_positions(encoded.mask), encoded.mask.sum(-1, keepdim=True) + inside], dim=1)
        attended: Any = torch.cat([encoded.mask, mask.flatten(1).to(encoded.mask.dtype)], dim=1)
        if count > 1:
            attended = self.attention_mask(model, _allowed(encoded.mask, count, length), places, places)
        states = model.get_decoder()(
            input_ids=torch.cat([encoded.ids, continuations.flatten(1)], dim=1),
            attention_mask=attended,
            position_ids=places,
            use_cache=False,
        ).last_hidden_state
        rows = torch.arange(batch, device=mask.device)
        first = states[rows, _last(encoded.mask)][:, None, None].expand(-1, count, 1, -1)
        written = states[:, prompt:].view(batch, count, length, -1)
        return torch.cat([first, written[:, :, :-1]], dim=2)  # the token before each one predicts it

    def plain_logits(self, model: Model, ids: Tensor, mask: Tensor, continuations: Tensor, kept: Tensor) -> Tensor:
        attended = torch.cat([mask, kept.to(mask.dtype)], dim=1)
        whole = torch.cat([ids, continuations], dim=1)
        logits = model(
            input_ids=whole, attention_mask=attended, position_ids=_positions(attended), use_cache=False
        ).logits
        return logits[:, ids.shape[1] - 1 : -1]

    def prefill(self, model: Model, encoded: Encoded, times: int, limit: int) -> tuple[Tensor, Any]:
        cache = source_cache(encoded)
        if times > 1:
            cache.batch_repeat_interleave(times)
        mask = encoded.mask.repeat_interleave(times, dim=0)
        logits = self.logits(model, encoded.states)
        return logits, _RowState(mask, mask.sum(-1, keepdim=True), cache)

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        state.mask = torch.cat([state.mask, torch.ones_like(state.mask[:, :1])], dim=1)
        states = model.get_decoder()(
            input_ids=tokens[:, None],
            attention_mask=self.attention_mask(
                model, state.mask.bool()[:, None], state.positions, _positions(state.mask)
            ),
            position_ids=state.positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        state.positions = state.positions + 1
        return self.logits(model, states[:, -1])

    def reorder(self, state: Any, rows: Tensor) -> Any:
        state.cache.reorder_cache(rows)
        return state

    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        window = getattr(model.config, "sliding_window", None)  # which `generate` counts in columns, padding included
        if encoded.cache and all(prefix) and settings["num_beams"] == 1 and window is None:
            ids, mask = left_padded(prefix, model.config.pad_token_id, encoded.ids.device)
            ids, mask = torch.cat([encoded.ids, ids], dim=1), torch.cat([encoded.mask, mask], dim=1)
            inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": source_cache(encoded)}
            return generated(model, settings, **inputs)[:, ids.shape[1] :].tolist()
        sources = [ids[kept.bool()].tolist() for ids, kept in zip(encoded.ids, encoded.mask, strict=True)]
        rows = [source + row for source, row in zip(sources, prefix, strict=True)]
        ids, mask = left_padded(rows, model.config.pad_token_id, encoded.ids.device)
        return generated(model, settings, input_ids=ids, attention_mask=mask)[:, ids.shape[1] :].tolist()


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
