"""Several targets of a model without warmups, ranked by its own likelihood: plain forwards say which is best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.answering.test_decoding import encoded, lively, sources_of
from tests.conftest import WITH_BART
from warmup.answering.answerer import Answerer
from warmup.config.schema import EvaluationConfig
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.target_sampling import sample_targets
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import decoded_text
from warmup.models.loading import add_pause

TARGET = 4


def answerer_of(backbone: Backbone, candidates: int, pauses: int | None, size: int = 64) -> Answerer:
    config = EvaluationConfig(num_candidates=candidates, batch_size=size)
    return Answerer(backbone, Limits(64, None, TARGET, pauses), config)


def prefix_of(backbone: Backbone, pauses: int | None) -> list[int]:
    vocabulary = backbone.tokenizer.get_vocab()
    return [] if pauses is None else [vocabulary["<pause>"]] * pauses + [vocabulary["<sep>"]]


@torch.no_grad()
def logprobs_by_hand(backbone: Backbone, source: list[int], written: list[int]) -> torch.Tensor:
    """[L, V] what predicts each token of `written`, by the model's own forward pass."""
    if backbone.model.config.is_encoder_decoder:
        start = backbone.model.config.decoder_start_token_id
        ids: dict[str, Any] = {"decoder_input_ids": torch.tensor([[start, *written[:-1]]])}
        logits = backbone.model(input_ids=torch.tensor([source]), **ids).logits[0]
    else:
        logits = backbone.model(input_ids=torch.tensor([[*source, *written]])).logits[0, len(source) - 1 : -1]
    return logits.double().log_softmax(-1)


def likelihood(backbone: Backbone, source: list[int], prefix: list[int], target: list[int]) -> float:
    written = [*prefix, *target]
    found = logprobs_by_hand(backbone, source, written)
    return sum(float(found[at, written[at]]) for at in range(len(prefix), len(written)))


def drawn_by_hand(backbone: Backbone, source: list[int], prefix: list[int], uniform: torch.Tensor) -> list[int]:
    """A target by inversion of the distribution's sums, token by token."""
    written: list[int] = []
    for number in uniform.tolist():
        shares = logprobs_by_hand(backbone, source, [*prefix, *written, 0])[-1].exp()
        token = int((shares.cumsum(0) / shares.sum() <= number).sum())
        if token == backbone.tokenizer.eos_token_id:
            break
        written.append(token)
    return written


def backbone_of(make_backbone: Any, architecture: str, pauses: int | None) -> Backbone:
    backbone = lively(make_backbone(architecture))
    if pauses is not None:
        add_pause(backbone)
    return backbone


@pytest.mark.parametrize("pauses", [None, 3])
@pytest.mark.parametrize("architecture", WITH_BART)
def test_the_answer_is_the_likeliest_of_the_greedy_and_the_drawn(
    make_backbone: Any, architecture: str, pauses: int | None
) -> None:
    backbone, count = backbone_of(make_backbone, architecture, pauses), 5
    rows, prefix = sources_of(backbone), prefix_of(backbone, pauses)
    greedy = answerer_of(backbone, 1, pauses).write_targets(encoded(backbone, rows), [prefix] * len(rows))
    answers = answerer_of(backbone, count, pauses, 7).decode(rows, "test")
    end = backbone.tokenizer.eos_token_id
    drawn_is_best = 0
    for row, first, answer in zip(rows, greedy, answers, strict=True):
        ids = torch.tensor([row])
        noise = Noise(input_seeds(1, 0, ids, torch.ones_like(ids), torch.tensor([[-100]])))
        drawn = [drawn_by_hand(backbone, row, prefix, u) for u in noise.uniform(count - 1, TARGET)[0]]
        candidates = [[*(target[: target.index(end)] if end in target else target), end] for target in [first, *drawn]]
        scores = [likelihood(backbone, row, prefix, target) for target in candidates]
        best = scores.index(max(scores))
        drawn_is_best += best > 0
        assert answer.warmup is None and answer.prediction == decoded_text(backbone, candidates[best])
    assert drawn_is_best or architecture != "mt5"  # the ranking decides something; the others' greedy ones are best


@pytest.mark.parametrize("architecture", WITH_BART)
def test_more_candidates_never_lower_the_likelihood(make_backbone: Any, architecture: str) -> None:
    backbone = backbone_of(make_backbone, architecture, None)
    rows, end = sources_of(backbone), backbone.tokenizer.eos_token_id
    before = [float("-inf")] * len(rows)
    raised = 0
    for count in (2, 3, 6, 12):
        answering = answerer_of(backbone, count, None)
        one = encoded(backbone, rows)
        targets = answering.likeliest(one, answering.write_targets(one, [[] for _ in rows]))
        now = [likelihood(backbone, row, [], target) for row, target in zip(rows, targets, strict=True)]
        assert all(target[-1] == end and target.count(end) == 1 for target in targets)
        assert all(after >= then - 1e-4 for after, then in zip(now, before, strict=True))
        raised += sum(after > then + 1e-3 for after, then in zip(now, before, strict=True)) if count > 2 else 0
        before = now
    assert raised or architecture != "mt5"


def test_draws_follow_the_model_and_belong_to_their_input(make_backbone: Any) -> None:
    backbone = make_backbone("t5")
    one = encoded(backbone, sources_of(backbone)[:2])
    drawn = sample_targets(backbone, one, 4000, 1, [], Noise(torch.tensor([3, 4])))
    for row, tokens in zip(sources_of(backbone), drawn, strict=False):
        expected = logprobs_by_hand(backbone, row, [0])[0].exp()
        found = torch.tensor([token for (token,) in tokens]).bincount(minlength=len(expected)) / len(tokens)
        assert (found - expected).abs().max() < 4 * (expected.max() / len(tokens)).sqrt()
    alone = sample_targets(backbone, one.select(torch.tensor([1])), 2, 3, [], Noise(torch.tensor([4])))
    together = sample_targets(backbone, one, 2, 3, [], Noise(torch.tensor([3, 4])))
    end = backbone.tokenizer.eos_token_id
    until = [[[*row, end][: [*row, end].index(end)] for row in rows] for rows in (alone[0], together[1])]
    assert until[0] == until[1]


def test_one_candidate_is_the_answer_as_ever_and_options_are_chosen(make_backbone: Any) -> None:
    backbone = make_backbone("t5")
    plain = Answerer(backbone, Limits(64, None, TARGET), EvaluationConfig())
    rows = sources_of(backbone)
    again = replace(plain, evaluation=EvaluationConfig(num_candidates=1)).decode(rows, "test")
    assert plain.decode(rows, "test") == again
    assert EvaluationConfig(num_candidates=2).ranks and not EvaluationConfig().ranks
