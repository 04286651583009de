"""A model with all that is needed to use it: tokenizer, kind, separator, and the distribution of its warmups."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from warmup.models.checkpoints import OwnSettings
from warmup.models.cuda_graphs import Recordings
from warmup.models.families import Encoded, Family, Model
from warmup.models.sequence_format import PLACE, SequenceFormat, line_ends, word_ids
from warmup.models.sharpening import Sharpening
from warmup.models.tokenizers import PAUSE

if TYPE_CHECKING:
    from warmup.models.lora import Adapters


@dataclass
class Backbone:
    """A model with all that is needed to read sources and write continuations."""

    model: Model
    tokenizer: PreTrainedTokenizerBase
    family: Family
    separator_id: int
    recordings: Recordings = field(default_factory=Recordings)  # of loops that decode
    own_settings: OwnSettings = field(default_factory=OwnSettings)
    separator_is_new: bool = False  # it was added when the model was loaded: nothing has been learnt of it
    sequence: SequenceFormat = SequenceFormat()  # what stands around source and target, as text
    before_target: tuple[int, ...] = ()  # the separator's other tokens, which follow whether or not it was drawn
    around_source: tuple[list[int], list[int]] | None = None  # tokens; None where the family has its own
    sharpening: Sharpening = Sharpening()  # of the distribution of warmups
    new_rows: list[int] = field(default_factory=list)  # of the embeddings, that no pretraining has seen
    forced: list[int] = field(default_factory=list)  # tokens that every written target begins with
    adapters: Adapters | None = None  # of LoRA, where the model has any
    tokens_of: dict[str, torch.Tensor] = field(default_factory=dict)  # [V] true for those of a vocabulary's text

    @property
    def separator(self) -> list[int]:
        """What stands between a warmup and its target."""
        return [self.separator_id, *self.before_target]

    def pause_prefix(self, pauses: int | None) -> list[int]:
        """What stands before every target of a model that writes no warmup: so many pauses and a separator, or nothing.

        The model has got its pause token (`loading.add_pause`).
        """
        if pauses is None:
            return []
        return [self.tokenizer.convert_tokens_to_ids(PAUSE)] * pauses + self.separator

    def merge_adapters(self) -> None:
        """Make adapters, where there are any, part of the model's own weights."""
        if self.adapters is not None:
            self.adapters.merge()
            self.adapters = None

    @cached_property
    def never_in_warmup(self) -> torch.Tensor:
        """[V] true for tokens that no warmup may hold: special tokens and vocabulary rows without a token.

        The separator is not among them: it ends the warmup. Where it is a line's end, no other token ends a line.
        """
        rows = self.model.get_output_embeddings().weight.shape[0]
        forbidden = torch.zeros(rows, dtype=torch.bool)
        forbidden[len(self.tokenizer) :] = True
        special = [index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special]
        forbidden[[index for index in special if index < rows]] = True
        ends = line_ends(self.tokenizer)
        if self.separator_id in ends:
            forbidden[ends] = True
        forbidden[self.separator_id] = False
        return forbidden


def never_in_warmups(backbone: Backbone, encoded: Encoded) -> torch.Tensor:
    """[V] or, where it differs between inputs, [B, V] true for tokens that the warmups of `encoded` may not hold."""
    never, text = backbone.never_in_warmup.to(encoded.ids.device), backbone.sharpening.vocabulary
    if text is None:
        return never
    if text not in backbone.tokens_of:
        backbone.tokens_of[text] = torch.zeros_like(backbone.never_in_warmup)
        backbone.tokens_of[text][word_ids(backbone.tokenizer, text.replace(PLACE, " "))] = True
    listed = backbone.tokens_of[text].to(never.device)
    if PLACE in text:
        own = torch.zeros(len(encoded.ids), len(never), dtype=torch.long, device=never.device)
        own.scatter_add_(1, encoded.ids, _of_source(backbone, encoded.mask).long())
        listed = listed | (own > 0)
    allowed = listed & ~never
    allowed[..., backbone.separator_id] = True
    return ~allowed


def _of_source(backbone: Backbone, mask: torch.Tensor) -> torch.Tensor:
    """[B, S] true for the tokens of the source itself, without what the model reads around it."""
    before, after = backbone.around_source or ([], [])
    place, count = mask.cumsum(-1) - 1, mask.sum(-1, keepdim=True)
    return mask.bool() & (place >= len(before)) & (place < count - len(after))
