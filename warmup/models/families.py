"""What differs between kinds of models, as one interface; `warmup.models.model_types` has the table of them.

Shapes: B inputs, S source tokens, K continuations of each input, L tokens of a continuation, V words, N = B * K rows,
W the model's width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedTokenizerBase

from warmup.config.schema import ModelConfig

Model = Any  # a PreTrainedModel, whose annotations know neither encoders nor generate


@dataclass(frozen=True)
class Encoded:
    """The sources of a batch, read once and ready to be continued."""

    ids: Tensor  # [B, S]
    mask: Tensor  # [B, S], 1 where there is a token
    states: Any  # a tensor: encoder output [B, S, W]; a causal model's state of the last source token [B, W], or None
    cache: tuple[tuple[Tensor, Tensor], ...] = ()  # the sources' keys and values [B, heads, S, size] in each layer

    def select(self, inputs: Tensor) -> Encoded:
        """The inputs of the given indices [B'], with gradient."""
        states = None if self.states is None else self.states[inputs]
        cache = tuple((keys[inputs], values[inputs]) for keys, values in self.cache)
        return Encoded(self.ids[inputs], self.mask[inputs], states, cache)

    def padded(self, multiple: int) -> Encoded:
        """The same with padding after the sources, up to a multiple of so many tokens; for inference."""
        more = -self.ids.shape[1] % multiple
        longer = self.states.dim() == 3
        states = nn.functional.pad(self.states, (0, 0, 0, more)) if longer else self.states
        ids, mask = (nn.functional.pad(part, (0, more)) for part in (self.ids, self.mask))
        cache = tuple(
            (nn.functional.pad(k, (0, 0, 0, more)), nn.functional.pad(v, (0, 0, 0, more))) for k, v in self.cache
        )
        return Encoded(ids, mask, states, cache)

    def parts(self) -> tuple[Tensor, ...]:
        """Its tensors in a row, as `from_parts` takes them."""
        return (self.ids, self.mask, self.states, *chain(*self.cache))

    @classmethod
    def from_parts(cls, ids: Tensor, mask: Tensor, states: Tensor, *cache: Tensor) -> Encoded:
        """The opposite of `parts`."""
        return cls(ids, mask, states, tuple(zip(cache[::2], cache[1::2], strict=True)))

    def detach(self) -> Encoded:
        """The same without gradient, to sample from."""
        states = None if self.states is None else self.states.detach()
        return Encoded(self.ids, self.mask, states, tuple((k.detach(), v.detach()) for k, v in self.cache))


class Family(ABC):
    """One kind of model. An instance belongs to one model, and may keep what `prepare` found out about it.

    A new kind begins with `DecoderOnly` or `EncoderDecoder`, which have most of these methods, and says what differs.
    What is abstract here must equal the model's own forward pass, however it is computed: `tests/models/test_parity.py`
    compares every method with it, and loading compares a few logits.
    """

    auto: ClassVar[Any]  # the class of transformers that loads it with its output layer
    is_encoder_decoder: ClassVar[bool]
    has_dropout: ClassVar[bool]  # whether `fresh_config` has a use for `size.dropout`
    padding_side: ClassVar[str]
    template: ClassVar[str]  # what published tokenizers put around a text: a fresh one does so too

    @abstractmethod
    def fresh_config(
        self, size: ModelConfig, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int
    ) -> PretrainedConfig:
        """The configuration of a fresh model with `rows` tokens that reads sequences of up to `longest`."""

    def initialise(self, model: Model) -> None:  # noqa: B027 - most have nothing to add
        """Change a fresh model's first weights where Hugging Face's do not suit."""

    def force_bos(self, model: Model, tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
        """What stands before a target that is to begin with `token`."""
        return [tokenizer.convert_tokens_to_ids(token)]

    def prepare(  # noqa: B027 - most have nothing to settle
        self, model: Model, tokenizer: PreTrainedTokenizerBase, languages: tuple[str | None, str | None]
    ) -> None:
        """Settle what depends on the tokenizer, and on the `languages` of source and target where they are known.

        Raises:
            UserError: the model lacks something that it cannot be used without.
        """

    def restored(self, model: Model, missing: set[str]) -> set[str]:
        """Those of the `missing` tensors of a file that others of it tell, and that the model has now."""
        return set()

    def start_ids(self, model: Model) -> list[int]:
        """What a decoder of its own reads before a continuation; nothing where the source is read there."""
        return []

    def most_positions(self, model: Model) -> int | None:
        """How many tokens a sequence may have; None where the model's positions have no end."""
        return None

    @abstractmethod
    def source_ids(
        self, tokenizer: PreTrainedTokenizerBase, text: str, separator_id: int
    ) -> tuple[list[int], list[int]]:
        """The tokens of `text` that may be cut at a length limit, and those that always follow them."""

    @abstractmethod
    def encode(self, model: Model, ids: Tensor, mask: Tensor, shared: bool = True) -> Encoded:
        """Read the sources [B, S]; with gradient where it is enabled. Padding may stand on either side.

        `shared`: the sources will be continued more than once, so what continuations read of them is worth keeping.
        """

    @abstractmethod
    def reader(self, model: Model) -> Any:
        """The module that reads continuations: its dropout must treat the K of an input alike."""

    @abstractmethod
    def hidden(self, model: Model, encoded: Encoded, continuations: Tensor, mask: Tensor) -> Tensor:
        """[B, K, L, W]: times `output_weight`, position t is the logits that predict `continuations[..., t]` [B, K, L].

        The K continuations of an input stand in one row, each blind to the others, so its source is read once.
        `mask` [B, K, L] is true where there is a token; padding stands last.
        """

    @abstractmethod
    def plain_logits(self, model: Model, ids: Tensor, mask: Tensor, continuations: Tensor, kept: Tensor) -> Tensor:
        """[B, L, V] logits that predict one continuation [B, L] of each source, by the model's own forward pass.

        `kept` [B, L] is true where there is a token. This is what all shortcuts must equal.
        """

    @abstractmethod
    def prefill(self, model: Model, encoded: Encoded, times: int, limit: int) -> tuple[Tensor, Any]:
        """The first token's logits [B, V], and a state of B * times rows that `step` takes up to `limit` tokens on.

        Each source is read once, and only then repeated.
        """

    @abstractmethod
    def reorder(self, state: Any, rows: Tensor) -> Any:
        """The state whose row n is row `rows[n]` [N] of the given one; rows only move within their input."""

    @abstractmethod
    def step(self, model: Model, state: Any, tokens: Tensor) -> Tensor:
        """Append `tokens` [N] and return the next token's logits [N, V]."""

    @abstractmethod
    def generate(self, model: Model, encoded: Encoded, prefix: list[list[int]], **settings: Any) -> list[list[int]]:
        """Continue each source after its `prefix` with `model.generate`; returns the new tokens of each input.

        Keys and values of the sources are taken from `encoded` where it has them, and where `generate` can take them:
        it would not repeat them for beams.
        """

    def recognition_ids(self, source: list[int], target: list[int], separator_id: int) -> list[int]:
        """A source, its closing token included, that shows the target too: target, separator, source."""
        return [*target, separator_id, *source]

    def output_weight(self, model: Model) -> Tensor:
        """[V, W] the output layer."""
        return model.get_output_embeddings().weight

    def output_bias(self, model: Model) -> Tensor | None:
        """[V] what is added to its logits, with gradient where it is a parameter; None where there is nothing."""
        return getattr(model.get_output_embeddings(), "bias", None)  # a layer with new rows has none (`lora.py`)

    def logits(self, model: Model, states: Tensor) -> Tensor:
        """[..., V] of what `hidden` returns [..., W]."""
        return model.get_output_embeddings()(states)


def recomputes(model: Model) -> bool:
    """Whether blocks run again in the backward pass (gradient checkpointing): they cannot fill a cache then."""
    return bool(model.is_gradient_checkpointing and model.training and torch.is_grad_enabled())


def source_cache(encoded: Encoded) -> DynamicCache:
    """A cache of its own that begins with the source; what is appended leaves `encoded` as it is."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(encoded.cache):
        cache.update(keys, values, layer)
    return cache


def in_one_piece(model: Model) -> bool:
    """Whether weights can be used outside of the modules that own them: what FSDP shards is only whole in there."""
    sharded = any(isinstance(part, (FSDPModule, FullyShardedDataParallel)) for part in model.modules())
    return not sharded and not any(isinstance(part, DTensor) for part in model.parameters())


def left_padded(rows: list[list[int]], padding_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token rows of unequal length as one [B, longest] tensor with its mask, padding in front."""
    longest = max(map(len, rows))
    ids = torch.tensor([[padding_id] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def block_causal(count: int, length: int, device: torch.device) -> Tensor:
    """[count * length, count * length] true where a token may look: at itself and before, within its own block."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return torch.block_diag(*[causal] * count).bool()


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """The 4-D mask [B, 1, T, T'] that attention adds: 0, or far below any score and finite, so that no row is NaN."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, -1e9)[:, None]
