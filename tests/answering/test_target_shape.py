"""What a target is made to look like: its least length, no repetition, its first token; and that scores say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.training.tiny_fit import copy_task
from warmup.answering.answerer import Answerer
from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.errors import UserError
from warmup.metrics.answers import score_answers
from warmup.metrics.metric import ScoringSettings
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.configured import forced_ids

ARCHITECTURES = ["t5", "llama"]


def targets(backbone: Backbone, warmup: int | None, **settings: Any) -> list[list[int]]:
    """What is written for eight sources, as token ids up to `</s>`."""
    answerer, written = Answerer(backbone, Limits(16, warmup, 12), EvaluationConfig(**settings)), []
    original = Answerer.write_targets

    def watched(self: Answerer, encoded: Any, prefix: list[list[int]]) -> list[list[int]]:
        rows = original(self, encoded, prefix)
        written.extend(rows)
        return rows

    Answerer.write_targets = watched  # type: ignore[method-assign]
    try:
        answerer.decode(copy_task(backbone, 8).sources, "test")
    finally:
        Answerer.write_targets = original  # type: ignore[method-assign]
    end = backbone.tokenizer.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in written]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("warmup", [None, 3])
def test_targets_are_shaped_as_asked(
    architecture: str, warmup: int | None, make_backbone: Callable[..., Backbone]
) -> None:
    backbone = make_backbone(architecture)
    backbone.model.get_output_embeddings().weight.data[backbone.tokenizer.eos_token_id] *= 4
    free = targets(backbone, warmup)
    long = targets(backbone, warmup, min_new_tokens=6)
    assert len(free) == 8 and all(len(row) >= 6 for row in long)
    for size in (1, 2):
        once = targets(backbone, warmup, min_new_tokens=6, no_repeat_ngram_size=size)
        for row in once:
            grams = [tuple(row[start : start + size]) for start in range(len(row) - size + 1)]
            assert len(grams) == len(set(grams)), row


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_before_a_target_may_be_repeated_in_it(
    architecture: str, make_backbone: Callable[..., Backbone]
) -> None:
    """With one token of the source forbidden, a model that only ever writes that one could not."""
    backbone = make_backbone(architecture)
    source = copy_task(backbone, 1).sources[0]
    answerer = Answerer(backbone, Limits(16, None, 1), EvaluationConfig(no_repeat_ngram_size=1))
    free = Answerer(backbone, Limits(16, None, 1), EvaluationConfig())
    assert answerer.decode([source], "test") == free.decode([source], "test")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_forced_token_is_read_before_the_target(architecture: str, make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone(architecture)
    words = [token for token, index in backbone.tokenizer.get_vocab().items() if 100 < index < 110]
    different = set()
    for word in words:
        backbone.forced = forced_ids(backbone, word)
        different.add(tuple(map(tuple, targets(backbone, None))))
    assert len(different) > 1
    with pytest.raises(UserError, match="evaluation.forced_bos is '<sop>'; allowed: a token of this model"):
        forced_ids(backbone, "<sop>")


def test_a_score_says_what_its_answers_were_made_to_look_like(make_backbone: Callable[..., Backbone]) -> None:
    evaluation = EvaluationConfig(min_new_tokens=2, no_repeat_ngram_size=3)
    answers = Answerer(make_backbone("t5"), Limits(16, None, 4), evaluation).decode([[5, 6, 7]], "test")
    examples = [Example("a", "a", "b")]
    score = score_answers(answers, examples, ["bleu"], ScoringSettings(evaluation=evaluation)).scores["bleu"]
    assert score.signature.endswith("|min_new_tokens:2|no_repeat_ngram_size:3")
    plain = score_answers(answers, examples, ["bleu"], ScoringSettings()).scores["bleu"]
    assert score.signature.startswith(plain.signature) and score.value == plain.value


@pytest.mark.parametrize(
    "settings", [{"forced_bos": "x", "num_warmups": 2}, {"min_new_tokens": 2, "num_candidates": 2}]
)
def test_what_is_ranked_by_likelihood_is_not_shaped(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="where answers are ranked by likelihood"):
        EvaluationConfig(**settings).check()
