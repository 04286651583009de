"""What differs between encoder-decoders (T5, mT5) and causal language models (Llama). Nothing outside knows which is used.

Shapes: B inputs, S source tokens, K continuations of each input, L continuation tokens, V vocabulary.
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


@dataclass(frozen=True)
class Encoded:
    """The sources of a batch, ready to be continued.

    `states` is the encoder's output [B, S, width], or None for a causal model, which reads `ids` again.
    """

    ids: Tensor  # [B, S]
    mask: Tensor  # [B, S], 1 where there is a token
    states: Tensor | None

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
    def source_ids(self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int) -> tuple[list[int], list[int]]:
        """The tokens of `text` that may be cut at a length limit, and those that always follow them."""

    @abstractmethod
    def encode(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Encoded:
        """Read the sources [B, S]; with gradient where it is enabled."""

    @abstractmethod
    def scorer(self, model: PreTrainedModel) -> nn.Module:
        """The part of the model that reads continuations: its dropout must be off while they are weighed."""

    @abstractmethod
    def logits(self, model: PreTrainedModel, encoded: Encoded, continuation: Tensor, mask: Tensor) -> Tensor:
        """[N, L, V]: position t predicts `continuation[:, t]` from the source and the tokens before t."""

    @abstractmethod
    def prefill(self, model: PreTrainedModel, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
        """The first token's logits [B * times, V], and a state that `step` takes further; each source is read once."""

    @abstractmethod
    def step(self, model: PreTrainedModel, state: Any, tokens: Tensor) -> Tensor:
        """Append `tokens` [N] and return the next token's logits [N, V]."""

    @abstractmethod
    def generate(self, model: PreTrainedModel, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
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

    def source_ids(self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int) -> tuple[list[int], list[int]]:
        return tokenizer(text, add_special_tokens=False)["input_ids"], [tokenizer.eos_token_id]

    def encode(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Encoded:
        states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return Encoded(ids, mask, states)

    def scorer(self, model: PreTrainedModel) -> nn.Module:
        return model.get_decoder()

    def logits(self, model: PreTrainedModel, encoded: Encoded, continuation: Tensor, mask: Tensor) -> Tensor:
        start = torch.full_like(continuation[:, :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, continuation[:, :-1]], dim=1)
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=encoded.mask,
            decoder_input_ids=shifted,
            use_cache=False,
        ).logits  # causal attention: padding behind a row's end changes nothing before it

    def prefill(self, model: PreTrainedModel, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = torch.full_like(encoded.ids[:, 0], model.config.decoder_start_token_id)
        logits = self._advance(model, encoded, cache, start)
        cache.batch_repeat_interleave(times)
        return logits.repeat_interleave(times, dim=0), (encoded.repeat(times), cache)

    def step(self, model: PreTrainedModel, state: Any, tokens: Tensor) -> Tensor:
        encoded, cache = state
        return self._advance(model, encoded, cache, tokens)

    def _advance(self, model: PreTrainedModel, encoded: Encoded, cache: EncoderDecoderCache, tokens: Tensor) -> Tensor:
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states),
            attention_mask=encoded.mask,
            decoder_input_ids=tokens[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]

    def generate(self, model: PreTrainedModel, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
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

    def source_ids(self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int) -> tuple[list[int], list[int]]:
        beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return beginning + tokenizer(text, add_special_tokens=False)["input_ids"], [separator_id]

    def encode(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Encoded:
        return Encoded(ids, mask, None)

    def scorer(self, model: PreTrainedModel) -> nn.Module:
        return model

    def logits(self, model: PreTrainedModel, encoded: Encoded, continuation: Tensor, mask: Tensor) -> Tensor:
        ids = torch.cat([encoded.ids, continuation], dim=1)
        attended = torch.cat([encoded.mask, mask.to(encoded.mask.dtype)], dim=1)
        output = model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=_positions(attended),
            logits_to_keep=continuation.shape[1] + 1,
            use_cache=False,
        )
        return output.logits[:, :-1]

    def prefill(self, model: PreTrainedModel, encoded: Encoded, times: int) -> tuple[Tensor, Any]:
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
        return logits.repeat_interleave(times, dim=0), {"cache": cache, "mask": encoded.mask.repeat_interleave(times, 0)}

    def step(self, model: PreTrainedModel, state: Any, tokens: Tensor) -> Tensor:
        mask = torch.cat([state["mask"], torch.ones_like(state["mask"][:, :1])], dim=1)
        state["mask"] = mask
        return model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=_positions(mask)[:, -1:],
            past_key_values=state["cache"],
            use_cache=True,
        ).logits[:, -1]

    def generate(self, model: PreTrainedModel, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        sources = [ids[kept.bool()].tolist() for ids, kept in zip(encoded.ids, encoded.mask, strict=True)]
        rows = [source + row for source, row in zip(sources, prefix, strict=True)]
        ids, mask = left_padded(rows, model.config.pad_token_id, encoded.ids.device)
        return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :].tolist()


def _positions(mask: Tensor) -> Tensor:
    """Position of each token in its row, padding not counted."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def family_of(config: Any) -> Family:
    """The family of a Hugging Face model configuration."""
    return EncoderDecoder() if config.is_encoder_decoder else DecoderOnly()
