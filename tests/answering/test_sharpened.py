"""Answering by a sharpened p(c|x): greedy, by beam, drawn and weighed, against enumeration."""

from __future__ import annotations

import math

import pytest
import torch

from tests.answering.test_decoding import answerer, encoded, sources_of
from tests.methods.enumeration import LABELS, LIMIT, Everything, every_warmup, sharpen
from tests.methods.oracle import score, sharpened
from tests.methods.test_samplers import assert_frequencies
from warmup.answering.marginal import score_candidates
from warmup.config.schema import EvaluationConfig
from warmup.models.backbone import Backbone
from warmup.models.sharpening import SharpenedBeams, Sharpening

SHARPENINGS = [Sharpening(), Sharpening(0.3), Sharpening(4.0), Sharpening(1.0, 0.6), Sharpening(4.0, 0.9)]


@pytest.fixture(params=["t5", "llama"])
def backbone(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    return sharpen(make_backbone(request.param), request.param)


def test_a_beam_of_all_warmups_finds_the_likeliest_per_token(backbone: Backbone) -> None:
    """The mean of log p over a warmup's drawn tokens, by which beam search compares lengths."""
    warmups, choices = every_warmup(backbone.tokenizer.pad_token_id), []
    drawn = warmups.lengths[0] + ~warmups.forced[0]
    searching = answerer(backbone, LIMIT, config=EvaluationConfig(warmup_num_beams=16))
    for first in (267, 269):
        source = [first, 270, 268, backbone.separator_id]
        for by in SHARPENINGS:
            backbone.sharpening = by
            best = int((score(backbone, [source], warmups, LABELS).warmup_logprob[0] / drawn).argmax())
            choices.append(best)
            expected = warmups.tokens[0, best, : warmups.lengths[0, best]].tolist()
            if not by.is_plain:  # whose beams count the probability of what no warmup may hold, too
                assert searching.write_warmups(encoded(backbone, [source])) == [expected]
    # in a T5 the sharpening decides; the tiny Llama hardly listens to what came before
    assert not backbone.model.config.is_encoder_decoder or len({*choices[:5]}) > 1 < len({*choices[5:]})


def test_the_temperature_decides_which_warmup_the_beam_finds(backbone: Backbone) -> None:
    rows, found = sources_of(backbone), []
    for by in SHARPENINGS:
        backbone.sharpening = by
        searching = answerer(backbone, 3, config=EvaluationConfig(warmup_num_beams=4))
        found.append(searching.write_warmups(encoded(backbone, rows)))
    assert any(other != found[0] for other in found[1:])


def test_beams_add_up_the_sharpened_log_probabilities() -> None:
    logits = torch.randn(5, 12).double() * 3
    logits[:, [2, 7]] = -math.inf  # suppressed
    allowed = [index for index in range(12) if index not in (2, 7)]
    for by in SHARPENINGS:
        found = SharpenedBeams(by)(torch.zeros(5, 1), logits.log_softmax(-1) - 0.5)
        expected = sharpened(logits[:, allowed], by.temperature, by.top_p)
        torch.testing.assert_close(found[:, allowed], expected, rtol=0, atol=1e-9)
        assert (found[:, [2, 7]] == -math.inf).all()


def test_greedy_warmups_are_the_same_at_any_temperature(backbone: Backbone) -> None:
    rows, found = sources_of(backbone), []
    for by in (*SHARPENINGS, Sharpening(0.05, 0.01)):
        backbone.sharpening = by
        found.append(answerer(backbone, 3).write_warmups(encoded(backbone, rows)))
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("by", SHARPENINGS[1:], ids=str)
def test_drawn_warmups_and_the_marginal_are_of_the_sharpened_distribution(backbone: Backbone, by: Sharpening) -> None:
    backbone.sharpening = by
    every = Everything.of(backbone)
    probabilities = every.scores.warmup_logprob[0].detach().exp()
    one = every.copies(1)[0]
    warmups = answerer(backbone, LIMIT).draw(one, 4000)
    assert_frequencies(every.index(warmups.tokens[0]), probabilities)
    found = score_candidates(backbone, one, warmups, [[[7, 8, 1]]])[0].exp()
    exact = every.log_likelihood().exp().item()
    assert abs(found.mean().item() - exact) <= 4 * found.std().item() / 4000**0.5 + 1e-6 * exact
