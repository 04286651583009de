"""What differs between encoder-decoders (T5, mT5) and causal language models (Llama) stands here and nowhere else.

Shapes: B inputs, S source tokens, K continuations of each input, L tokens of a continuation, V words, N = B * K rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

Model = Any  # a PreTrainedModel, whose annotations know neither encoders nor generate


@dataclass(frozen=True)
class Encoded:
    """The sources of a batch, ready to be continued.

    `states` is the encoder's output [B, S, width], or None for a causal model, which reads `ids` again.
    """

    ids: Tensor  # [B, S]
    mask: Tensor  # [B, S], 1 where there is a token
    states: Any  # Tensor or None

    def repeat(self, times: int) -> Encoded:
        """Each input `times` times in a row: [B * times, ...]."""
        states = None if self.states is None else self.states.repeat_interleave(times, dim=0)
        return Encoded(self.ids.repeat_interleave(times, dim=0), self.mask.repeat_interleave(times, dim=0), states)

    def detach(self) -> Encoded:
        """The same without gradient, to sample from."""
        return Encoded(self.ids, self.mask, None if self.states is None else self.states.detach())


class Family(ABC):
    """One kind of model."""

    padding_side: str

    @abstractmethod
    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        """The tokens of `text` that may be cut at a length limit, and those that always follow them."""

    @abstractmethod
    def encode(self, model: Model, ids: Tensor, mask: Tensor) -> Encoded:
        """Read the sources [B, S]; with gradient where it is enabled."""

    @abstractmethod
    def scorer(self, model: Model) -> nn.Module:
        """The part of the model that reads continuations: its dropout must be off while they are weighed."""

    @abstractmethod
    def logits(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        """[B, K, L, V]: position t predicts `continuations[..., t]` [B, K, L] from the source and the tokens before t.

        The K continuations of an input stand in one row, each blind to the others, so its source is read once.
        `mask` [B, K, L] is true where there is a token; padding stands behind.
        """

    @abstractmethod
    def prefill(self, model: Model, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
        """The first token's logits [B * times, V], and a state that `step` takes further; each source is read once."""

    @abstractmethod
    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        """Append `tokens` [N] and return the next token's logits [N, V]."""

    @abstractmethod
    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        """Continue each source behind its `prefix` with `model.generate`; returns the new tokens of each input."""


@contextmanager
def evaluation_mode(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Each of `parts` (not its children) as after `.eval()`, and as before afterwards."""
    changed = [part for part in parts if part.training]
    for part in changed:
        part.training = False
    try:
        yield
    finally:
        for part in changed:
            part.training = True


def dropout_off(module: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode for everything in `module` but the switches of gradient checkpointing.

    Hugging Face blocks recompute activations only where `training` is set, so those flags are left alone; dropout
    lives in the layers inside them, or in attention modules that read their own flag.
    """
    switches = (GradientCheckpointingLayer, PreTrainedModel)
    return evaluation_mode(part for part in module.modules() if not isinstance(part, switches))


def left_padded(rows: list[list[int]], padding_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token rows of unequal length as one [B, longest] tensor with its mask, padding in front."""
    longest = max(map(len, rows))
    ids = torch.tensor([[padding_id] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


class EncoderDecoder(Family):
    """T5 and mT5: the encoder reads the source, the decoder writes warmup and target."""

    padding_side = "right"

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        return tokenizer(text, add_special_tokens=False)["input_ids"], [tokenizer.eos_token_id]

    def encode(self, model: Model, ids: Tensor, mask: Tensor) -> Encoded:
        states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return Encoded(ids, mask, states)

    def scorer(self, model: Model) -> nn.Module:
        return model.get_decoder()

    def logits(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        start = torch.full_like(continuations[..., :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, continuations[..., :-1]], dim=-1).flatten(1)
        blind = None  # a single continuation needs no more than the decoder's own causal mask
        if count > 1:  # position bias is relative, so a block sees the same distances wherever it stands
            allowed = _block_causal(count, length, continuations.device).expand(batch, -1, -1)
            blind = _additive(allowed, encoded.states)
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=encoded.mask,
            decoder_input_ids=shifted,
            decoder_attention_mask=blind,
            use_cache=False,
        ).logits
        return logits.view(batch, count, length, -1)

    def prefill(self, model: Model, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = torch.full_like(encoded.ids[:, 0], model.config.decoder_start_token_id)
        logits = self._advance(model, encoded, cache, start)
        cache.batch_repeat_interleave(times)
        return logits.repeat_interleave(times, dim=0), (encoded.repeat(times), cache)

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        encoded, cache = state
        return self._advance(model, encoded, cache, tokens)

    def _advance(self, model: Model, encoded: Encoded, cache: EncoderDecoderCache, tokens: Tensor) -> Tensor:
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=encoded.mask,
            decoder_input_ids=tokens[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]

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


class DecoderOnly(Family):
    """Llama: one sequence, `x <sep> c <sep> y`; the prompt is padded on the left."""

    padding_side = "left"

    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return beginning + tokenizer(text, add_special_tokens=False)["input_ids"], [separator_id]

    def encode(self, model: Model, ids: Tensor, mask: Tensor) -> Encoded:
        return Encoded(ids, mask, None)

    def scorer(self, model: Model) -> nn.Module:
        return model

    def logits(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        batch, count, length = continuations.shape
        prompt = encoded.ids.shape[1]
        lengths = encoded.mask.sum(-1, keepdim=True)
        inside = torch.arange(length, device=lengths.device).repeat(count)  # position in its own continuation
        attended = torch.cat([encoded.mask, mask.flatten(1).to(encoded.mask.dtype)], dim=1)
        if count > 1:
            attended = _additive(self._allowed(encoded.mask, count, length), model.get_input_embeddings().weight)
        starts = prompt + length * torch.arange(count, device=lengths.device)
        before = torch.cat(
            [torch.full_like(starts[:, None], prompt - 1), starts[:, None] + inside[: length - 1]], dim=1
        )
        logits = model(
            input_ids=torch.cat([encoded.ids, continuations.flatten(1)], dim=1),
            attention_mask=attended,
            position_ids=torch.cat([_positions(encoded.mask), lengths + inside], dim=1),
            logits_to_keep=before.flatten(),  # the token before each one predicts it
            use_cache=False,
        ).logits
        return logits.view(batch, count, length, -1)

    def _allowed(self, prompt_mask: Tensor, count: int, length: int) -> Tensor:
        """[B, T, T] for prompt and continuations in one row: who may attend to whom."""
        batch, prompt = prompt_mask.shape
        total = prompt + count * length
        allowed = torch.zeros(batch, total, total, dtype=torch.bool, device=prompt_mask.device)
        allowed[:, :, :prompt] = prompt_mask.bool()[:, None, :]
        allowed[:, :prompt] &= torch.ones(prompt, total, dtype=torch.bool, device=prompt_mask.device).tril()
        allowed[:, prompt:, prompt:] = _block_causal(count, length, prompt_mask.device)
        return allowed | torch.eye(total, dtype=torch.bool, device=prompt_mask.device)  # a row of nothing would be NaN

    def prefill(self, model: Model, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
        cache = DynamicCache()
        logits = model(
            input_ids=encoded.ids,
            attention_mask=encoded.mask,
            position_ids=_positions(encoded.mask),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        cache.batch_repeat_interleave(times)
        return logits.repeat_interleave(times, dim=0), {
            "cache": cache,
            "mask": encoded.mask.repeat_interleave(times, 0),
        }

    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        mask = torch.cat([state["mask"], torch.ones_like(state["mask"][:, :1])], dim=1)
        state["mask"] = mask
        return model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=_positions(mask)[:, -1:],
            past_key_values=state["cache"],
            use_cache=True,
        ).logits[:, -1]

    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        sources = [ids[kept.bool()].tolist() for ids, kept in zip(encoded.ids, encoded.mask, strict=True)]
        rows = [source + row for source, row in zip(sources, prefix, strict=True)]
        ids, mask = left_padded(rows, model.config.pad_token_id, encoded.ids.device)
        return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :].tolist()


def _block_causal(count: int, length: int, device: torch.device) -> Tensor:
    """[count * length, count * length] true where a token may look: at itself and before, within its own block."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return torch.block_diag(*[causal] * count).bool()


def _additive(allowed: Tensor, like: Tensor) -> Tensor:
    """The 4-D mask [B, 1, T, T] that attention adds: 0 or far below any score, and finite, so that no row is NaN."""
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill(~allowed, -1e9)[:, None]


def _positions(mask: Tensor) -> Tensor:
    """Position of each token in its row, padding not counted."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def family_of(config: Any) -> Family:
    """The family of a Hugging Face model configuration."""
    return EncoderDecoder() if config.is_encoder_decoder else DecoderOnly()
