"""Two-phase decoding: write the warmup, force the separator at the limit as training did, then write the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from warmup.config.schema import EvaluationConfig
from warmup.models.encoding import source_batch
from warmup.models.families import Encoded
from warmup.models.loading import Backbone
from warmup.models.modes import evaluation_mode


@dataclass(frozen=True)
class Answer:
    """What the model wrote for one source."""

    warmup: str | None  # None for a model that writes none
    prediction: str


@torch.no_grad()
def decode(
    backbone: Backbone,
    sources: Sequence[list[int]],
    max_warmup_tokens: int | None,
    max_target_tokens: int,
    config: EvaluationConfig,
    description: str,
) -> list[Answer]:
    """Answer each source (token ids), in the order given; batches are sorted by length to save padding.

    `max_warmup_tokens` None decodes the target directly, as SFT trains it. The bar shows inputs per second and the
    time left.
    """
    answers: dict[int, Answer] = {}
    with evaluation_mode(backbone.model.modules()):
        for chosen, encoded in encoded_batches(backbone, sources, config.batch_size, description):
            written = decode_batch(backbone, encoded, max_warmup_tokens, max_target_tokens, config)
            answers.update(zip(chosen, written, strict=True))
    return [answers[index] for index in range(len(sources))]


def encoded_batches(
    backbone: Backbone, sources: Sequence[list[int]], size: int, description: str
) -> Iterator[tuple[list[int], Encoded]]:
    """Sources (token ids) in batches, sorted by length to save padding: which ones, and what the model read."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]), reverse=True)
    device = next(backbone.model.parameters()).device
    with tqdm(total=len(sources), desc=description, unit="input", leave=False, dynamic_ncols=True) as bar:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = source_batch(backbone, [sources[index] for index in chosen])
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            yield chosen, backbone.family.encode(backbone.model, ids, mask)
            bar.update(len(chosen))


def decode_batch(
    backbone: Backbone,
    encoded: Encoded,
    max_warmup_tokens: int | None,
    max_target_tokens: int,
    config: EvaluationConfig,
) -> list[Answer]:
    """Answers of one batch."""
    batch = encoded.ids.shape[0]
    if max_warmup_tokens is None:
        targets = write_targets(backbone, encoded, [[] for _ in range(batch)], max_target_tokens, config)
        return [Answer(None, text_of(backbone, target)) for target in targets]
    warmups = write_warmups(backbone, encoded, max_warmup_tokens, config)
    prefix = [[*warmup, backbone.separator_id] for warmup in warmups]
    targets = write_targets(backbone, encoded, prefix, max_target_tokens, config)
    return [Answer(text_of(backbone, w), text_of(backbone, t)) for w, t in zip(warmups, targets, strict=True)]


def write_warmups(
    backbone: Backbone, encoded: Encoded, max_warmup_tokens: int, config: EvaluationConfig
) -> list[list[int]]:
    """The warmup of each input, greedy or by beam, without its separator."""
    written = backbone.family.generate(
        backbone.model,
        encoded,
        [[] for _ in range(encoded.ids.shape[0])],
        max_new_tokens=max_warmup_tokens,
        eos_token_id=backbone.separator_id,
        suppress_tokens=backbone.never_in_warmup.nonzero().flatten().tolist(),
        num_beams=config.warmup_num_beams,
        **_fixed(backbone),
    )
    return [_until(row, backbone.separator_id, backbone.tokenizer.pad_token_id) for row in written]


def write_targets(
    backbone: Backbone,
    encoded: Encoded,
    prefix: list[list[int]],
    max_target_tokens: int,
    config: EvaluationConfig,
) -> list[list[int]]:
    """The target of each input behind its prefix, greedy or by beam."""
    return backbone.family.generate(
        backbone.model,
        encoded,
        prefix,
        max_new_tokens=max_target_tokens,
        eos_token_id=backbone.tokenizer.eos_token_id,
        num_beams=config.num_beams,
        **({"length_penalty": config.length_penalty} if config.num_beams > 1 else {}),
        **_fixed(backbone),
    )


def _fixed(backbone: Backbone) -> dict[str, object]:
    """Settings that a published model's own generation_config must not change."""
    return {
        "do_sample": False,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "max_length": None,
        "pad_token_id": backbone.tokenizer.pad_token_id,
    }


def _until(row: list[int], separator_id: int, padding_id: int) -> list[int]:
    end = row.index(separator_id) if separator_id in row else len(row)
    return [token for token in row[:end] if token != padding_id]


def text_of(backbone: Backbone, ids: list[int]) -> str:
    """What token ids say, special tokens left out."""
    return backbone.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
