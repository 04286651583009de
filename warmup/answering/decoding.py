"""Two-phase decoding: write the warmup, force the separator at the limit as training did, then write the target.

With `evaluation.num_warmups` above 1, several warmups are drawn and the answer is the target that they make likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from warmup.answering.marginal import best, draw_warmups, score_candidates
from warmup.config.schema import EvaluationConfig
from warmup.methods.sampling import Warmups
from warmup.models.encoding import source_batch, text_of
from warmup.models.families import Encoded
from warmup.models.loading import Backbone
from warmup.models.modes import evaluation_mode
from warmup.models.tokenizers import text_ids


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
    seed: int = 1,
    options: Sequence[Sequence[str]] | None = None,
) -> list[Answer]:
    """Answer each source (token ids), in the order given; batches are sorted by length to save padding.

    Args:
        max_warmup_tokens: None decodes the target directly, as SFT trains it.
        description: of the bar, which shows inputs per second and the time left.
        seed: of drawn warmups; they depend on it and on the source's tokens, not on batches or processes.
        options: of each source the answers to choose from, by their marginal likelihood over `config.num_warmups`
            warmups; None writes the answer.
    """
    answers: dict[int, Answer] = {}
    draws = 1 if max_warmup_tokens is None else config.num_warmups
    size = max(1, config.batch_size // draws)  # a batch has one row per warmup
    with evaluation_mode(backbone.model.modules()):
        scored = draws > 1 or options is not None
        for chosen, encoded in encoded_batches(backbone, sources, size, description, shared=scored):
            if options is not None:
                offered = [options[index] for index in chosen]
                written = choose_options(backbone, encoded, max_warmup_tokens, config, seed, offered)
            else:
                written = decode_batch(backbone, encoded, max_warmup_tokens, max_target_tokens, config, seed)
            answers.update(zip(chosen, written, strict=True))
    return [answers[index] for index in range(len(sources))]


def encoded_batches(
    backbone: Backbone, sources: Sequence[list[int]], size: int, description: str, shared: bool = False
) -> Iterator[tuple[list[int], Encoded]]:
    """Sources (token ids) in batches, sorted by length to save padding: which ones, and what the model read.

    `shared`: keys and values too, for several drawings or scorings; `generate` makes its own.
    """
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]), reverse=True)
    device = next(backbone.model.parameters()).device
    with tqdm(total=len(sources), desc=description, unit="input", leave=False, dynamic_ncols=True) as bar:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = source_batch(backbone, [sources[index] for index in chosen])
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            yield chosen, backbone.family.encode(backbone.model, ids, mask, shared)
            bar.update(len(chosen))


def decode_batch(
    backbone: Backbone,
    encoded: Encoded,
    max_warmup_tokens: int | None,
    max_target_tokens: int,
    config: EvaluationConfig,
    seed: int,
) -> list[Answer]:
    """Answers of one batch."""
    batch = encoded.ids.shape[0]
    if max_warmup_tokens is None:
        targets = write_targets(backbone, encoded, [[] for _ in range(batch)], max_target_tokens, config)
        return [Answer(None, text_of(backbone, target)) for target in targets]
    if config.num_warmups > 1:
        warmups = draw_warmups(backbone, encoded, config.num_warmups, max_warmup_tokens, seed)
        return rank_targets(backbone, encoded, warmups, max_target_tokens, config)
    written = write_warmups(backbone, encoded, max_warmup_tokens, config, seed)
    prefix = [[*warmup, backbone.separator_id] for warmup in written]
    targets = write_targets(backbone, encoded, prefix, max_target_tokens, config)
    return [Answer(text_of(backbone, w), text_of(backbone, t)) for w, t in zip(written, targets, strict=True)]


def rank_targets(
    backbone: Backbone, encoded: Encoded, warmups: Warmups, max_target_tokens: int, config: EvaluationConfig
) -> list[Answer]:
    """A candidate target behind each warmup, and of each input the one that all its warmups make likeliest.

    A candidate that the limit cut off is scored with the `</s>` that training would have put there.
    """
    rows = _token_rows(warmups)
    distinct = [list(dict.fromkeys(map(tuple, row))) for row in rows]  # equal warmups have equal targets
    prefix = [[*warmup, backbone.separator_id] for row in distinct for warmup in row]
    owner = torch.tensor([index for index, row in enumerate(distinct) for _ in row], device=encoded.ids.device)
    targets = write_targets(backbone, encoded.select(owner), prefix, max_target_tokens, config)
    candidates: list[list[list[int]]] = [[] for _ in rows]
    for index, target in zip(owner.tolist(), targets, strict=True):
        whole = _ended(target, backbone.tokenizer.eos_token_id)
        if whole not in candidates[index]:
            candidates[index].append(whole)
    answers = []
    scored = score_candidates(backbone, encoded, warmups, candidates)
    for row, written, scores in zip(rows, candidates, scored, strict=True):
        choice = best(scores)
        answers.append(Answer(text_of(backbone, row[choice.warmup]), text_of(backbone, written[choice.candidate])))
    return answers


def choose_options(
    backbone: Backbone,
    encoded: Encoded,
    max_warmup_tokens: int | None,
    config: EvaluationConfig,
    seed: int,
    options: Sequence[Sequence[str]],
) -> list[Answer]:
    """Of each input the one of its options that its drawn warmups make likeliest; without warmups, the likeliest."""
    end = backbone.tokenizer.eos_token_id
    rows = [[[*text_ids(backbone.tokenizer, option), end] for option in own] for own in options]
    warmups = None
    if max_warmup_tokens is not None:
        warmups = draw_warmups(backbone, encoded, config.num_warmups, max_warmup_tokens, seed)
    choices = [best(scores) for scores in score_candidates(backbone, encoded, warmups, rows)]
    if warmups is None:
        return [Answer(None, own[choice.candidate]) for own, choice in zip(options, choices, strict=True)]
    return [
        Answer(text_of(backbone, drawn[choice.warmup]), own[choice.candidate])
        for drawn, own, choice in zip(_token_rows(warmups), options, choices, strict=True)
    ]


def write_warmups(
    backbone: Backbone, encoded: Encoded, max_warmup_tokens: int, config: EvaluationConfig, seed: int = 1
) -> list[list[int]]:
    """The warmup of each input, greedy, by beam or drawn with `seed`, without its separator."""
    if config.sample_warmup:
        return [row[0] for row in _token_rows(draw_warmups(backbone, encoded, 1, max_warmup_tokens, seed))]
    written = backbone.family.generate(
        backbone.model,
        encoded,
        [[] for _ in range(encoded.ids.shape[0])],
        max_new_tokens=max_warmup_tokens,
        eos_token_id=backbone.separator_id,
        suppress_tokens=backbone.never_in_warmup.nonzero().flatten().tolist(),
        num_beams=config.warmup_num_beams,
        pad_token_id=backbone.tokenizer.pad_token_id,
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
        pad_token_id=backbone.tokenizer.pad_token_id,
    )


def _token_rows(warmups: Warmups) -> list[list[list[int]]]:
    """The tokens of each input's warmups, without padding."""
    return [
        [tokens[:length] for tokens, length in zip(*pair, strict=True)]
        for pair in zip(warmups.tokens.tolist(), warmups.lengths.tolist(), strict=True)
    ]


def _ended(row: list[int], end: int) -> list[int]:
    """A written target up to its `</s>`, which is put behind one that has none."""
    return [*(row[: row.index(end)] if end in row else row), end]


def _until(row: list[int], separator_id: int, padding_id: int) -> list[int]:
    end = row.index(separator_id) if separator_id in row else len(row)
    return [token for token in row[:end] if token != padding_id]
