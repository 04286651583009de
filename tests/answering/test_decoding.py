"""Two-phase decoding: batches equal single inputs, the separator is forced, order is kept."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import WITH_BART
from warmup.answering.answerer import Answerer
from warmup.config.schema import EvaluationConfig
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import source_batch

TEXTS = ["the quick brown fox", "we", "a small red ball rolls down the hill", "books", "lazy dog jumps"]


def sources_of(backbone) -> list[list[int]]:
    return [sum(backbone.family.source_ids(backbone.tokenizer, text, backbone.separator_id), []) for text in TEXTS]


def answerer(backbone, warmup=None, target=6, config=None, seed=1) -> Answerer:
    """With limits of warmups and targets; sources are token ids already."""
    return Answerer(backbone, Limits(64, warmup, target), config or EvaluationConfig(), seed)


def encoded(backbone, rows):
    batch = source_batch(backbone, rows)
    return backbone.family.encode(backbone.model, batch["input_ids"], batch["attention_mask"])


def logits_of(backbone, one, tokens):
    """[L, V] logits that predict each of a single continuation's tokens [1, 1, L]."""
    states = backbone.family.hidden(backbone.model, one, tokens, torch.ones_like(tokens))
    return (states @ backbone.family.output_weight(backbone.model).T)[0, 0]


def lively(backbone):
    """A fresh Llama hardly listens to what came before: with larger weights, as training makes them, it does."""
    if not backbone.model.config.is_encoder_decoder:
        with torch.no_grad():
            for weight in backbone.model.parameters():
                weight.mul_(5.0 if weight.ndim == 2 else 1.0)
    return backbone


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("architecture", WITH_BART)
def test_batched_answers_equal_those_of_single_inputs(make_backbone, architecture: str, beams: int) -> None:
    backbone = lively(make_backbone(architecture))
    config = EvaluationConfig(batch_size=3, num_beams=beams, warmup_num_beams=beams)
    single = EvaluationConfig(batch_size=1, num_beams=beams, warmup_num_beams=beams)
    together = answerer(backbone, 4, 6, config).decode(sources_of(backbone), "test")
    alone = [answerer(backbone, 4, 6, single).decode([row], "test")[0] for row in sources_of(backbone)]
    assert together == alone
    assert len({answer.warmup for answer in together}) > 1


@pytest.mark.parametrize("architecture", WITH_BART)
def test_greedy_warmups_are_the_argmax_of_the_scored_distribution(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    rows = sources_of(backbone)
    warmups = answerer(backbone, 4).write_warmups(encoded(backbone, rows))
    for row, warmup in zip(rows, warmups, strict=True):
        one, written = encoded(backbone, [row]), []
        while len(written) < 4:
            tokens = torch.tensor([[[*written, 0]]])
            logits = logits_of(backbone, one, tokens)[len(written)]
            token = int(logits.masked_fill(backbone.never_in_warmup, float("-inf")).argmax())
            if token == backbone.separator_id:
                break
            written.append(token)
        assert warmup == written


@pytest.mark.parametrize("architecture", WITH_BART)
def test_warmups_stop_at_the_separator_and_at_the_limit(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    rows = sources_of(backbone)
    assert all(len(warmup) <= 3 for warmup in answerer(backbone, 3).write_warmups(encoded(backbone, rows)))
    never = backbone.model.get_output_embeddings().weight.shape[0] - 1
    only_separator = torch.ones(never + 1, dtype=torch.bool)
    only_separator[backbone.separator_id] = False
    type(backbone).never_in_warmup, kept = property(lambda _: only_separator), type(backbone).never_in_warmup
    try:
        assert answerer(backbone, 3).write_warmups(encoded(backbone, rows)) == [[]] * len(rows)
    finally:
        type(backbone).never_in_warmup = kept


@pytest.mark.parametrize("architecture", WITH_BART)
def test_greedy_targets_are_the_argmax_given_their_own_warmup(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    rows = sources_of(backbone)[:3]
    prefix = [[20, 30, 40, backbone.separator_id], [backbone.separator_id], [280, backbone.separator_id]]
    targets = answerer(backbone, 3, 5).write_targets(encoded(backbone, rows), prefix)
    for row, before, target in zip(rows, prefix, targets, strict=True):
        one, written = encoded(backbone, [row]), list(before)
        for _ in range(5):
            tokens = torch.tensor([[[*written, 0]]])
            logits = logits_of(backbone, one, tokens)
            written.append(int(logits[len(written)].argmax()))
            if written[-1] == backbone.tokenizer.eos_token_id:
                break
        expected = written[len(before) :]
        assert target[: len(expected)] == expected


def test_a_model_without_warmup_answers_directly(make_backbone) -> None:
    backbone = make_backbone("t5")
    answers = answerer(backbone).decode(sources_of(backbone), "test")
    assert [answer.warmup for answer in answers] == [None] * len(TEXTS)


def test_decoding_restores_the_training_mode_and_needs_no_gradient(make_backbone) -> None:
    backbone = make_backbone("t5", dropout=0.5)
    backbone.model.train()
    first = answerer(backbone, 3, 4).decode(sources_of(backbone), "test")
    assert backbone.model.training and backbone.model.encoder.training
    assert first == answerer(backbone, 3, 4).decode(sources_of(backbone), "test")  # no dropout noise
