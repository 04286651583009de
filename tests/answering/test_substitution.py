"""Warmups replaced by another input's and by none: who gets which, and that an effect is seen where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from warmup.answering import substitution
from warmup.answering.answer import Limits
from warmup.answering.decoding import decode, encoded_batches, text_of, write_warmups
from warmup.answering.substitution import other_inputs, substitute_warmups
from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.models.encoding import encode_sources, encode_targets
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
        lambda metrics, texts, *rest: scored.append(list(texts.predictions)) or real(metrics, texts, *rest),
    )
    found = substitute_warmups(backbone, texts, LIMITS, CONFIG, ["chrf"], None)
    assert found["warmups"]["own"]["target_nll"] == pytest.approx(nll_behind_own(backbone, texts), rel=1e-5)
    usual = decode(backbone, encode_sources(backbone, texts, LIMITS.source, "test"), 4, 6, CONFIG, "")
    assert scored[0] == [answer.prediction for answer in usual]
    assert list(found["warmups"]) == ["own", "shuffled", "empty"] and found["warmups"]["own"]["changed"] == 0


real = substitution.compute_metrics


def nll_behind_own(backbone: Backbone, texts: list[Example]) -> float:
    """Input by input, by the model's own forward pass over source, greedy warmup, separator and reference."""
    sources = encode_sources(backbone, texts, LIMITS.source, "test")
    total = tokens = 0.0
    for source, target in zip(sources, encode_targets(backbone, texts, LIMITS.target, "test"), strict=True):
        encoded = next(iter(encoded_batches(backbone, [source], 1, "")))[1]
        prefix = [*write_warmups(backbone, encoded, LIMITS.warmup, CONFIG, 1)[0], backbone.separator_id]
        row = torch.tensor([[*prefix, *target]])
        if backbone.model.config.is_encoder_decoder:
            logits = backbone.model(input_ids=torch.tensor([source]), labels=row).logits[0]
        else:
            logits = backbone.model(input_ids=torch.tensor([[*source, *row[0].tolist()]])).logits[0, len(source) - 1 :]
        behind = torch.arange(len(prefix), row.shape[1])
        total -= logits.log_softmax(-1)[behind, row[0, behind]].sum().item()
        tokens += len(target)
    return total / tokens


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
