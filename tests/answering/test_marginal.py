"""Answers by several warmups: held against brute force, independent of batches, seeded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.answering.test_decoding import answerer, encoded, lively, sources_of
from tests.conftest import ARCHITECTURES, WITH_BART
from tests.methods.enumeration import LIMIT, Everything, sharpen
from tests.test_train_command import TINY, command
from warmup.answering.answerer import Answer
from warmup.answering.marginal import Choice, best, score_candidates
from warmup.config.schema import EvaluationConfig, OptionsConfig
from warmup.data.examples import Wording
from warmup.methods.sampling import Warmups, as_written
from warmup.models.backbone import Backbone
from warmup.models.encoding import decoded_text, source_batch
from warmup.studies.naive import naive_scores

OPTIONS = ["A", "B", "books", "the lazy dog"]
SEVERAL = EvaluationConfig(batch_size=64, num_warmups=6)
WARMUP, TARGET = 3, 4  # the longest, in tokens


def option_rows(backbone: Backbone) -> list[list[int]]:
    tokenizer = backbone.tokenizer
    return [[*tokenizer(option, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for option in OPTIONS]


def by_hand(backbone: Backbone, source: list[int], warmups: Warmups, candidates: list[list[int]]) -> Tensor:
    """[C, M] log p(y|x,c_m), each continuation read on its own."""
    batch = source_batch(backbone, [source])
    rows = [
        naive_scores(backbone, batch["input_ids"], batch["attention_mask"], warmups, torch.tensor([candidate]))
        for candidate in candidates
    ]
    return torch.stack([row.target_logprob[0] for row in rows]).detach()


def chosen_by_hand(scores: Tensor) -> tuple[int, int]:
    """The best candidate by the mean likelihood, and its likeliest warmup."""
    likelihood = [math.fsum(map(math.exp, row)) / len(row) for row in scores.tolist()]
    candidate = max(range(len(likelihood)), key=likelihood.__getitem__)
    return candidate, int(scores[candidate].argmax())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_many_warmups_estimate_the_likelihood_that_enumeration_gives(make_backbone, architecture: str) -> None:
    backbone = sharpen(make_backbone(architecture), architecture)
    every = Everything.of(backbone)
    exact = every.scores.warmup_logprob[0] + by_hand(
        backbone, every.ids[0].tolist(), every.warmups, option_rows(backbone)
    )
    with torch.no_grad():
        one = backbone.family.encode(backbone.model, every.ids, every.mask)
        warmups = answerer(backbone, LIMIT).draw(one, 4000)
        found = score_candidates(backbone, one, warmups, [option_rows(backbone)])[0]
    drawn = found.logsumexp(-1) - math.log(4000)
    spread = (2 * found - 2 * drawn[:, None]).exp().mean(-1).sub(1).div(4000).sqrt()  # of the relative error
    assert found.std(-1).min() > 0.001  # warmups make a difference
    assert ((drawn - exact.logsumexp(-1)).abs() < 4 * spread + 1e-6).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_options_are_chosen_by_their_marginal(make_backbone, architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    backbone.model.double()
    rows, candidates = sources_of(backbone), option_rows(backbone)
    answers = answerer(backbone, WARMUP, TARGET, SEVERAL, seed=3).decode(rows, "test", [OPTIONS] * len(rows))
    for row, answer in zip(rows, answers, strict=True):
        warmups = answerer(backbone, WARMUP, seed=3).draw(encoded(backbone, [row]), 6)
        scores = by_hand(backbone, row, warmups, candidates)
        with torch.no_grad():
            assert torch.allclose(
                score_candidates(backbone, encoded(backbone, [row]), warmups, [candidates])[0], scores, atol=1e-5
            )
        candidate, warmup = chosen_by_hand(scores)
        tokens = warmups.tokens[0, warmup, : warmups.lengths[0, warmup]].tolist()
        assert answer == Answer(decoded_text(backbone, tokens), OPTIONS[candidate])


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_targets_are_ranked_by_their_marginal(make_backbone, architecture: str, beams: int) -> None:
    backbone = lively(make_backbone(architecture))
    backbone.model.double()
    rows, config = sources_of(backbone), replace(SEVERAL, num_beams=beams)
    ranking = answerer(backbone, WARMUP, TARGET, config, seed=3)
    answers = ranking.decode(rows, "test")
    distinct = 0
    for row, answer in zip(rows, answers, strict=True):
        one = encoded(backbone, [row])
        warmups = ranking.draw(one, 6)
        candidates: list[list[int]] = []
        for tokens, length in zip(warmups.tokens[0].tolist(), warmups.lengths[0].tolist(), strict=True):
            written = ranking.write_targets(one, [[*tokens[:length], backbone.separator_id]])[0]
            end = backbone.tokenizer.eos_token_id
            candidate = [*written[: written.index(end) if end in written else None], end]
            candidates += [candidate] * (candidate not in candidates)
        distinct += len(candidates) > 1
        candidate, warmup = chosen_by_hand(by_hand(backbone, row, warmups, candidates))
        tokens = warmups.tokens[0, warmup, : warmups.lengths[0, warmup]].tolist()
        assert answer == Answer(decoded_text(backbone, tokens), decoded_text(backbone, candidates[candidate]))
    assert distinct


@pytest.mark.parametrize("architecture", WITH_BART)
def test_targets_are_written_without_reading_their_sources_again(make_backbone, architecture: str) -> None:
    """And are those that are written when the source is read for each."""
    backbone = lively(make_backbone(architecture))
    rows, read, logits = sources_of(backbone), [], []
    one = encoded(backbone, rows)
    owner = torch.tensor([0, 0, 1, 2, 3, 4, 4])
    prefix = [[20 + n] * n + [backbone.separator_id] for n in range(len(owner))]
    readers = ("EncDecAttention.k", "encoder_attn.k_proj", "model.embed_tokens")  # of sources, by T5, BART and Llama
    for name, part in backbone.model.named_modules():
        if name.endswith(readers):
            part.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    backbone.model.get_output_embeddings().register_forward_hook(lambda _, __, found: logits.append(found[:, -1]))
    writing = answerer(backbone, WARMUP, TARGET)
    plain = writing.write_targets(replace(one, cache=()).select(owner), prefix)
    expected = logits.copy()
    assert max(read) >= max(map(len, rows)) > max(map(len, prefix))
    read.clear(), logits.clear()
    assert writing.write_targets(one.select(owner), prefix) == plain
    assert max(read, default=0) <= max(map(len, prefix))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert (logits[0][0] - logits[0][1:]).abs().amax(-1).min() > 1e-3  # they depend on source and warmup


@pytest.mark.parametrize(("warmups", "size", "expected"), [(3, 2, [2, 2, 1]), (8, 4, [2, 2, 1]), (8, 1, [1] * 5)])
def test_a_batch_has_no_more_than_four_warmups_for_each_input_that_it_may_have(
    make_backbone, warmups: int, size: int, expected: list[int]
) -> None:
    answering = answerer(make_backbone("t5"), WARMUP, TARGET, EvaluationConfig(batch_size=size, num_warmups=warmups))
    read = []
    answering.backbone.model.get_encoder().register_forward_hook(lambda *found: read.append(len(found[-1][0])))
    answering.decode(sources_of(answering.backbone), "test")
    assert read == expected


def test_the_mean_likelihood_decides_not_the_mean_logarithm_nor_the_best_warmup() -> None:
    scores = torch.tensor([[-1.0, -50.0, -50.0], [-2.5, -2.5, -2.6], [-1.9, -1.9, -60.0]], dtype=torch.float64)
    assert chosen_by_hand(scores) == (0, 0) and best(scores).candidate == 0
    assert (best(scores[1:]).candidate, best(scores[1:]).warmup) == (1, 0)
    assert best(torch.tensor([[-900.0, -900.0], [-899.0, -2000.0]])).candidate == 1  # whose likelihoods underflow


def test_of_equal_candidates_and_warmups_the_first_is_chosen() -> None:
    tied = torch.tensor([[-9.0, -9.0], [-2.0, -1.0], [-1.0, -2.0]], dtype=torch.float64)
    assert best(tied) == Choice(candidate=1, warmup=1) and best(tied[[0, 2, 1]]) == Choice(candidate=1, warmup=0)
    assert best(torch.full((3, 4), -5.0, dtype=torch.float64)) == Choice(candidate=0, warmup=0)


def test_of_equal_options_and_targets_the_first_is_answered(make_backbone) -> None:
    backbone = lively(make_backbone("t5"))
    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.zero_()  # texts of one length are all as likely
    rows, equal = sources_of(backbone), ["C", "A", "B"]
    for warmup in (None, WARMUP):
        answers = answerer(backbone, warmup, TARGET, SEVERAL).decode(rows, "test", [equal] * len(rows))
        assert [answer.prediction for answer in answers] == ["C"] * len(rows)
    several = answerer(backbone, WARMUP, TARGET, SEVERAL)
    drawn = several.draw(encoded(backbone, rows), 6)
    firsts = [decoded_text(backbone, t[0, : n[0]].tolist()) for t, n in zip(drawn.tokens, drawn.lengths, strict=True)]
    answers = several.decode(rows, "test")
    assert [answer.warmup for answer in answers] == firsts


@pytest.mark.parametrize("options", [None, OPTIONS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_depend_on_the_seed_and_the_input_not_on_the_batch(
    make_backbone, architecture: str, options: list[str] | None
) -> None:
    backbone = lively(make_backbone(architecture))
    rows = sources_of(backbone)

    def answers(config: EvaluationConfig, chosen: list[list[int]] = rows, seed: int = 1) -> list[Answer]:
        return answerer(backbone, WARMUP, TARGET, config, seed).decode(
            chosen, "test", options and [options] * len(chosen)
        )

    together = answers(SEVERAL)
    assert together == answers(SEVERAL)
    assert together == answers(replace(SEVERAL, batch_size=13)) == answers(replace(SEVERAL, batch_size=1))
    assert together[::-1] == answers(SEVERAL, rows[::-1])
    assert together != answers(SEVERAL, seed=2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_by_likelihood_the_options_are_scored_behind_the_greedy_warmup(make_backbone, architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    backbone.model.double()
    rows, candidates = sources_of(backbone), option_rows(backbone)
    chooser = answerer(backbone, WARMUP, TARGET, EvaluationConfig(answer_by="likelihood"))
    answers = chooser.decode(rows, "test", [OPTIONS] * len(rows))
    for row, answer in zip(rows, answers, strict=True):
        (greedy,) = chooser.write_warmups(encoded(backbone, [row]))
        scores = by_hand(backbone, row, as_written([[greedy]], WARMUP, 0), candidates)
        assert answer == Answer(decoded_text(backbone, greedy), OPTIONS[int(scores[:, 0].argmax())])


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_a_single_warmup_may_be_drawn(make_backbone, architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    rows, config = sources_of(backbone), EvaluationConfig(batch_size=2, sample_warmup=True)
    drawing = answerer(backbone, WARMUP, TARGET, config, seed=5)
    answers = drawing.decode(rows, "test")
    warmups = drawing.draw(encoded(backbone, rows), 6)
    first = [tokens[:length] for tokens, length in zip(warmups.tokens[:, 0], warmups.lengths[:, 0], strict=True)]
    assert [answer.warmup for answer in answers] == [decoded_text(backbone, tokens.tolist()) for tokens in first]
    prefix = [[*tokens.tolist(), backbone.separator_id] for tokens in first]
    targets = drawing.write_targets(encoded(backbone, rows), prefix)
    assert [answer.prediction for answer in answers] == [decoded_text(backbone, target) for target in targets]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_warmups_options_are_chosen_by_their_own_likelihood(make_backbone, architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    rows = sources_of(backbone)
    answers = answerer(backbone, None, TARGET, SEVERAL).decode(rows, "test", [OPTIONS] * len(rows))
    for row, answer in zip(rows, answers, strict=True):
        losses = []
        for candidate in option_rows(backbone):
            if backbone.model.config.is_encoder_decoder:
                inputs, labels = row, candidate
            else:
                inputs, labels = row + candidate, [-100] * len(row) + candidate
            loss = backbone.model(input_ids=torch.tensor([inputs]), labels=torch.tensor([labels])).loss
            losses.append(loss.item() * len(candidate))
        assert answer == Answer(None, OPTIONS[losses.index(min(losses))])
    written = [
        answerer(backbone, None, TARGET, config).decode(rows, "test") for config in (SEVERAL, EvaluationConfig())
    ]
    assert written[0] == written[1]


def test_options_are_worded_as_targets_are() -> None:
    wording = Wording("any", "{question} {options}", "answer: {answer}.", options=OptionsConfig("options", "answer"))
    record = {"question": "q", "options": ["x", "y", "z"], "answer": 2}
    assert wording.example(record, "here").options == ("answer: A.", "answer: B.", "answer: C.")
    assert replace(wording, target_template="{answer} {question}").example(record, "here").options is None


@pytest.mark.parametrize(
    "words", [["task=logiqa", "evaluation.num_warmups=4"], ["task=logiqa_harness", "evaluation.answer_by=likelihood"]]
)
def test_the_command_scores_four_options_for_both_methods(tmp_path: Path, words: list[str]) -> None:
    several = [*words, "method=sft,warmup"]
    result = command("-m", *TINY, *several, f"hydra.sweep.dir={tmp_path}")
    assert result.returncode == 0, result.stdout + result.stderr
    for method in ("sft", "warmup"):
        run = next(tmp_path.glob(f"*_{method}_*"))
        records = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(records) == 10 and all(record["prediction"] in record["options"] for record in records)
        assert ({record["prediction"] for record in records} <= set("ABCD")) == ("task=logiqa" in words)
        assert [record["warmup"] is None for record in records] == [method == "sft"] * 10
        assert json.loads((run / "metrics.json").read_text())["invalid_answers"] == 0
