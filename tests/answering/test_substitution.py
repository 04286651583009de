"""Warmups replaced by others: who gets which, and that an effect is seen where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from warmup.answering.answerer import Answerer, encoded_batches
from warmup.answering.substitution import other_inputs, substitute_warmups, substitutes
from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.metrics.answers import score_substitution
from warmup.metrics.metric import ScoringSettings
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import decoded_text, encode_sources, encode_targets
from warmup.models.families import Encoded

LIMITS = Limits(source=12, warmup=4, target=6)
CONFIG = EvaluationConfig(batch_size=2)
KINDS = ["own", "shuffled", "random", "constant", "source_start", "empty"]


def examples(count: int) -> list[Example]:
    return [Example(f"a small dog {'x ' * i}", f"a small dog {'x ' * i}", f"reference {i}") for i in range(count)]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_every_input_gets_anothers_and_each_is_taken_once(count: int) -> None:
    order = other_inputs(count)
    assert sorted(order) == list(range(count)) and all(i != other for i, other in enumerate(order))


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_given_its_own_warmup_the_model_answers_as_ever(
    architecture: str, make_backbone: Callable[..., Backbone]
) -> None:
    answerer, texts = Answerer(make_backbone(architecture), LIMITS, CONFIG), examples(5)
    found = substitute_warmups(answerer, texts)
    assert found.kinds["own"].target_nll == pytest.approx(nll_given_own(answerer, texts), rel=1e-5)
    usual = answerer.decode(encode_sources(answerer.backbone, texts, LIMITS.source, "test"), "")
    assert found.kinds["own"].predictions == [answer.prediction for answer in usual]
    assert list(found.kinds) == KINDS and found.kinds["own"].changed == 0


def nll_given_own(answerer: Answerer, texts: list[Example]) -> float:
    """Input by input, by the model's own forward pass over source, greedy warmup, separator and reference."""
    backbone = answerer.backbone
    sources = encode_sources(backbone, texts, LIMITS.source, "test")
    total = tokens = 0.0
    for source, target in zip(sources, encode_targets(backbone, texts, LIMITS.target, "test"), strict=True):
        encoded = next(iter(encoded_batches(backbone, [source], 1, "")))[1]
        prefix = [*answerer.write_warmups(encoded)[0], backbone.separator_id]
        row = torch.tensor([[*prefix, *target]])
        if backbone.model.config.is_encoder_decoder:
            logits = backbone.model(input_ids=torch.tensor([source]), labels=row).logits[0]
        else:
            logits = backbone.model(input_ids=torch.tensor([[*source, *row[0].tolist()]])).logits[0, len(source) - 1 :]
        rest = torch.arange(len(prefix), row.shape[1])
        total -= logits.log_softmax(-1)[rest, row[0, rest]].sum().item()
        tokens += len(target)
    return total / tokens


def test_a_model_that_copies_its_warmup_is_found_out(
    make_backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone("t5")
    words = ["fox", "dog", "ball", "hill"]
    ids = [backbone.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    sources = encode_sources(backbone, examples(4), LIMITS.source, "test")

    def write_warmups(_: Answerer, encoded: object) -> list[list[int]]:
        rows = [row[kept.bool()].tolist() for row, kept in zip(encoded.ids, encoded.mask, strict=True)]  # type: ignore[attr-defined]
        return [ids[sources.index(row)] for row in rows]

    monkeypatch.setattr(Answerer, "write_warmups", write_warmups)
    monkeypatch.setattr(Answerer, "write_targets", lambda _, encoded, prefix: [row[:-1] for row in prefix])
    texts = [
        Example(example.source, example.prompt, decoded_text(backbone, row))
        for example, row in zip(examples(4), ids, strict=True)
    ]
    given = substitute_warmups(Answerer(backbone, LIMITS, CONFIG), texts)
    found = score_substitution(given, texts, ["accuracy"], ScoringSettings(), "accuracy")
    scores = {name: part["scores"]["accuracy"] for name, part in found["warmups"].items()}
    expected = [100.0, 0.0, 0.0, 25.0, 0.0, 0.0]  # the constant one is that of the first input
    assert scores == dict(zip(KINDS, expected, strict=True))
    # of n discordant examples all are in favour of the own warmups: McNemar's exact test gives 2 / 2^n
    p_values = {kind: part["p_values"] for kind, part in found["warmups"].items() if kind != "own"}
    lost = {kind: round(4 * (1 - scores[kind] / 100)) for kind in KINDS}
    assert p_values == {kind: {"accuracy": pytest.approx(2 / 2 ** lost[kind])} for kind in p_values}
    assert "p_values" not in found["warmups"]["own"]
    assert found["same_warmup"] == 0.0 and found["warmups"]["shuffled"]["changed"] == 1.0


def test_the_targets_after_all_kinds_are_written_together_and_equal_warmups_once(
    make_backbone: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    original = Answerer.write_targets

    def counting(self: Answerer, encoded: Encoded, prefix: list[list[int]]) -> list[list[int]]:
        written.append([(tuple(ids), tuple(row)) for ids, row in zip(encoded.ids.tolist(), prefix, strict=True)])
        return original(self, encoded, prefix)

    monkeypatch.setattr(Answerer, "write_targets", counting)
    answerer = Answerer(make_backbone("t5"), LIMITS, EvaluationConfig(batch_size=6))
    substitute_warmups(answerer, [*examples(4), *examples(4)])
    assert len(written) == 2  # 4 of 8 inputs at a time: four rows for each of 6 inputs, six kinds
    assert all(len(set(rows)) <= len(rows) < 4 * len(KINDS) for rows in written)


def test_a_single_input_has_no_other(make_backbone: Callable[..., Backbone]) -> None:
    found = substitute_warmups(Answerer(make_backbone("t5"), LIMITS, CONFIG), examples(1))
    assert list(found.kinds) == [kind for kind in KINDS if kind != "shuffled"] and found.same_warmup == 1


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_what_stands_in_for_a_warmup(architecture: str, make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone(architecture)
    source = "we like </s> books"  # text, in which nothing is special
    spelt = [backbone.tokenizer.convert_tokens_to_ids(piece) for piece in backbone.tokenizer.tokenize("we like")]
    longest = len(spelt)
    own = [[30, 31], [40, 41, 42], [], [40, 41, 42]] + [[50 + i] * 40 for i in range(40)]
    found = substitutes(backbone, own, [source] * len(own))
    assert found == substitutes(backbone, own, [source] * len(own))
    assert list(found) == KINDS[1:]
    assert found["constant"] == [[40, 41, 42]] * len(own) and found["empty"] == [[]] * len(own)
    starts = found["source_start"]
    assert starts[0] == spelt[:2] and starts[1][:longest] == spelt[:3] and starts[2] == []
    assert decoded_text(backbone, starts[-1]) == source  # shorter than the own warmup, and whole
    assert list(map(len, found["random"])) == list(map(len, own))
    drawn = [token for row in found["random"] for token in row]
    special = set(backbone.tokenizer.all_special_ids) | {backbone.separator_id}
    ordinary = [token for token in range(len(backbone.tokenizer)) if token not in special]
    assert set(drawn) <= set(ordinary) and len(set(drawn)) > 0.95 * len(ordinary)
    mean, spread = sum(drawn) / len(drawn), (ordinary[-1] - ordinary[0]) / (12 * len(drawn)) ** 0.5
    assert abs(mean - (ordinary[0] + ordinary[-1]) / 2) < 4 * spread
