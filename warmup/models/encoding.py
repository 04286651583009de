"""From worded examples to token ids, with the length limits counted, and from ids to text."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from warmup.data.examples import Example
from warmup.errors import wrong_value
from warmup.models.backbone import Backbone
from warmup.models.families import Family
from warmup.models.tokenizers import text_ids

log = logging.getLogger(__name__)
IGNORED_LABEL = -100  # what Hugging Face's losses and token counts skip


@dataclass(frozen=True)
class Batch:
    """A training batch; B examples."""

    input_ids: Tensor  # [B, S] the sources
    attention_mask: Tensor  # [B, S], 1 where there is a token
    labels: Tensor  # [B, T] the targets, padded with -100


@dataclass(frozen=True)
class TextReader:
    """All of a backbone that turns text into token ids: everything but the model, so that it is quick to hand over."""

    tokenizer: PreTrainedTokenizerBase
    family: Family
    separator_id: int
    around_source: tuple[list[int], list[int]] | None

    @classmethod
    def of(cls, backbone: Backbone) -> TextReader:
        """That of a backbone."""
        return cls(backbone.tokenizer, backbone.family, backbone.separator_id, backbone.around_source)

    def identity(self) -> list[Any]:
        """JSON values on which the ids depend, beside the text."""
        tokenizer = self.tokenizer
        special = sorted(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        spelling = [tokenizers.__version__, tokenizer.backend_tokenizer.to_str(), special, tokenizer.eos_token_id]
        return [*spelling, self.around_source, self._source_ids("A b.")]

    def source(self, example: Example, limit: int) -> tuple[list[int], bool]:
        """Source token ids, and whether they were cut; see `encode_sources`."""
        text, closing = self._source_ids(example.prompt)
        cut = len(text) + len(closing) > limit
        if cut:
            text = self._shortened(example, limit) or text
        return text[: limit - len(closing)] + closing, cut

    def target(self, example: Example, limit: int) -> tuple[list[int], bool]:
        """Target token ids, and whether they were cut; see `encode_targets`."""
        ids = text_ids(self.tokenizer, example.target or "")
        return ids[: limit - 1] + [self.tokenizer.eos_token_id], len(ids) + 1 > limit

    def _shortened(self, example: Example, limit: int) -> list[int] | None:
        """The tokens with as much of the text that may be cut as fits; None where that is the end, or nothing fits."""
        start, end = example.cuttable or (0, len(example.prompt))
        if end == len(example.prompt):
            return None

        def with_letters(count: int) -> tuple[list[int], bool]:
            text = example.prompt[:start] + example.prompt[start : start + count].rstrip() + example.prompt[end:]
            ids, closing = self._source_ids(text)
            return ids, len(ids) + len(closing) <= limit

        most = bisect_left(range(end - start + 1), True, key=lambda count: not with_letters(count)[1])
        ids, fits = with_letters(max(0, most - 1))
        return ids if fits else None

    def _source_ids(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens of a source, the end of which may be cut at a length limit, and those that always follow them."""
        if self.around_source is None:
            return self.family.source_ids(self.tokenizer, text, self.separator_id)
        before, after = self.around_source
        return before + text_ids(self.tokenizer, text), after


def encode_sources(backbone: Backbone, examples: Sequence[Example], limit: int, split: str) -> list[list[int]]:
    """Source token ids of at most `limit` tokens each, the closing token included; a cut is warned of, counted.

    What is cut is the end of the longest field, so that a question behind a long passage stays whole; where the field
    is the prompt's end, or what is left without it is too long, the end of the prompt.
    """
    check_room(backbone, limit)
    reader = TextReader.of(backbone)
    found = [reader.source(example, limit) for example in examples]
    warn_cut_sources(sum(cut for _, cut in found), len(found), split, limit)
    return [ids for ids, _ in found]


def encode_targets(backbone: Backbone, examples: Sequence[Example], limit: int, split: str) -> list[list[int]]:
    """Target token ids of at most `limit` tokens each, `</s>` included; a cut is warned of, counted."""
    reader = TextReader.of(backbone)
    found = [reader.target(example, limit) for example in examples]
    warn_cut_targets(sum(cut for _, cut in found), len(found), split, limit)
    return [ids for ids, _ in found]


def check_room(backbone: Backbone, limit: int) -> None:
    """Raises UserError where the model's own words around a source leave it no room."""
    around = sum(map(len, backbone.around_source or ()))
    if backbone.around_source and around >= limit:
        allowed = f"more than {around}, which the model's own words around a source take"
        raise wrong_value("task.max_source_tokens", limit, allowed)


def warn_cut_sources(cut: int, total: int, split: str, limit: int) -> None:
    """Warn of those that were cut, if any were."""
    _warn_cut(cut, total, f"{split} sources", "task.max_source_tokens", limit)


def warn_cut_targets(cut: int, total: int, split: str, limit: int) -> None:
    """Warn of those that were cut, if any were."""
    _warn_cut(cut, total, f"{split} targets", "task.max_target_tokens", limit)


def _warn_cut(cut: int, total: int, what: str, key: str, limit: int) -> None:
    if cut:
        log.warning("%d of %d %s are longer than %s=%d and were cut", cut, total, what, key, limit)


def decoded_text(backbone: Backbone, ids: list[int]) -> str:
    """What token ids say, special tokens left out."""
    text: str = backbone.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


def source_batch(backbone: Backbone, rows: Sequence[list[int]]) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` [B, longest], padded on the side that the family needs."""
    longest = max(map(len, rows))
    padding = [[backbone.tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
    zeros = [[0] * len(pad) for pad in padding]
    if backbone.family.padding_side == "left":
        ids = [pad + row for pad, row in zip(padding, rows, strict=True)]
        mask = [zero + [1] * len(row) for zero, row in zip(zeros, rows, strict=True)]
    else:
        ids = [row + pad for pad, row in zip(padding, rows, strict=True)]
        mask = [[1] * len(row) + zero for zero, row in zip(zeros, rows, strict=True)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


class Collator:
    """Batches of `{"source": ids, "target": ids}` for the Trainer; labels are padded with -100."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
        longest = max(len(row["target"]) for row in rows)
        labels = [row["target"] + [IGNORED_LABEL] * (longest - len(row["target"])) for row in rows]
        return {**source_batch(self.backbone, [row["source"] for row in rows]), "labels": torch.tensor(labels)}
