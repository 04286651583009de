"""Warmups replaced by another input's and by none: who gets which, and that an effect is seen where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.evaluation import substitution
from warmup.evaluation.decoding import decode, text_of
from warmup.evaluation.evaluate import Limits
from warmup.evaluation.substitution import other_inputs, substitute_warmups
from warmup.models.encoding import encode_sources
from warmup.models.loading import Backbone

LIMITS = Limits(source=12, warmup=4, target=6)
CONFIG = EvaluationConfig(batch_size=2)


def examples(count: int) -> list[Example]:
    return [Example(f"a small dog {'x ' * i}", f"a small dog {'x ' * i}", f"reference {i}") for i in range(count)]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_every_input_gets_anothers_and_each_is_taken_once(count: int) -> None:
    order = other_inputs(count)
    assert sorted(order) == list(range(count)) and all(i != other for i, other in enumerate(order))


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_behind_its_own_warmup_the_model_answers_as_ever(
    architecture: str, make_backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone(architecture)
    texts = examples(5)
    scored: list[list[str]] = []
    monkeypatch.setattr(
        substitution,
        "compute_metrics",
        lambda metrics, answers, *rest: scored.append(list(answers)) or real(metrics, answers, *rest),
    )
    found = substitute_warmups(backbone, texts, LIMITS, CONFIG, ["chrf"], None)
    usual = decode(backbone, encode_sources(backbone, texts, LIMITS.source, "test"), 4, 6, CONFIG, "")
    assert scored[0] == [answer.prediction for answer in usual]
    assert list(found["warmups"]) == ["own", "shuffled", "empty"] and found["warmups"]["own"]["changed"] == 0


real = substitution.compute_metrics


def test_a_model_that_copies_its_warmup_is_found_out(
    make_backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone("t5")
    words = ["fox", "dog", "ball", "hill"]
    ids = [backbone.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    sources = encode_sources(backbone, examples(4), LIMITS.source, "test")

    def write_warmups(_: Backbone, encoded: object, *rest: object) -> list[list[int]]:
        rows = [row[kept.bool()].tolist() for row, kept in zip(encoded.ids, encoded.mask, strict=True)]  # type: ignore[attr-defined]
        return [ids[sources.index(row)] for row in rows]

    monkeypatch.setattr(substitution, "write_warmups", write_warmups)
    monkeypatch.setattr(substitution, "write_targets", lambda _, encoded, prefix, *rest: [row[:-1] for row in prefix])
    texts = [
        Example(example.source, example.prompt, text_of(backbone, row))
        for example, row in zip(examples(4), ids, strict=True)
    ]
    found = substitute_warmups(backbone, texts, LIMITS, CONFIG, ["accuracy"], None)
    scores = {name: part["scores"]["accuracy"] for name, part in found["warmups"].items()}
    assert scores == {"own": 100.0, "shuffled": 0.0, "empty": 0.0}
    assert found["same_warmup"] == 0.0 and found["warmups"]["shuffled"]["changed"] == 1.0


def test_a_single_input_has_no_other(make_backbone: Callable[..., Backbone]) -> None:
    found = substitute_warmups(make_backbone("t5"), examples(1), LIMITS, CONFIG, ["chrf"], None)
    assert list(found["warmups"]) == ["own", "empty"]
