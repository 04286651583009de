"""Beams and the length penalty: each phase against plain `model.generate` of one input, without padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.answering.test_decoding import answerer, encoded, lively, sources_of
from tests.conftest import ARCHITECTURES
from warmup.config.schema import EvaluationConfig
from warmup.models.backbone import Backbone
from warmup.models.encoding import decoded_text

LIMIT = 6


def generated(backbone: Backbone, source: list[int], prefix: list[int], end: int, **settings: object) -> list[int]:
    """What Hugging Face's own generate writes after `prefix`, up to and without `end`."""
    model = backbone.model
    begun = [*source, *prefix]
    if model.config.is_encoder_decoder:
        begun = [model.config.decoder_start_token_id, *prefix]
        settings["decoder_input_ids"] = torch.tensor([begun])
    ids = torch.tensor([source if model.config.is_encoder_decoder else begun])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LIMIT,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=backbone.tokenizer.pad_token_id,
        **settings,
    )
    written: list[int] = output[0, len(begun) :].tolist()
    return written[: written.index(end)] if end in written else written


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_warmups_by_beam_are_those_of_plain_generate(make_backbone: Callable[..., Backbone], architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    rows = sources_of(backbone)
    forbidden = backbone.never_in_warmup.nonzero().flatten().tolist()

    def by_hand(beams: int) -> list[list[int]]:
        settings = {"num_beams": beams, "suppress_tokens": forbidden}
        return [generated(backbone, row, [], backbone.separator_id, **settings) for row in rows]

    found = answerer(backbone, LIMIT, config=EvaluationConfig(warmup_num_beams=4)).write_warmups(
        encoded(backbone, rows)
    )
    assert found == by_hand(4)
    assert found != by_hand(1)  # the beams make a difference, and are not the target's


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_targets_by_beam_are_those_of_plain_generate(make_backbone: Callable[..., Backbone], architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    rows, end = sources_of(backbone), backbone.tokenizer.eos_token_id
    prefix = [[*range(20 + 9 * index, 20 + 10 * index), backbone.separator_id] for index in range(len(rows))]

    def by_hand(beams: int) -> list[str]:
        written = [generated(backbone, row, p, end, num_beams=beams) for row, p in zip(rows, prefix, strict=True)]
        return [decoded_text(backbone, target) for target in written]

    def found(beams: int) -> list[str]:
        several = answerer(backbone, LIMIT, LIMIT, EvaluationConfig(num_beams=beams))
        targets = several.write_targets(encoded(backbone, rows), prefix)
        return [decoded_text(backbone, target) for target in targets]

    assert found(4) == by_hand(4)
    assert found(4) != by_hand(1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_length_penalty_decides_between_a_short_and_a_long_answer(
    make_backbone: Callable[..., Backbone], architecture: str
) -> None:
    backbone = lively(make_backbone(architecture))
    raise_end(backbone, 3.0)
    rows, end = sources_of(backbone), backbone.tokenizer.eos_token_id

    def found(penalty: float) -> list[str]:
        config = EvaluationConfig(batch_size=2, num_beams=4, length_penalty=penalty)
        return [answer.prediction for answer in answerer(backbone, None, LIMIT, config).decode(rows, "test")]

    def by_hand(penalty: float) -> list[str]:
        written = [generated(backbone, row, [], end, num_beams=4, length_penalty=penalty) for row in rows]
        return [decoded_text(backbone, target) for target in written]

    short, long = found(-8.0), found(8.0)
    assert short == by_hand(-8.0) and long == by_hand(8.0)
    assert short != long and sum(map(len, short)) < sum(map(len, long))


@torch.no_grad()
def raise_end(backbone: Backbone, factor: float) -> None:
    """Make `</s>` likely enough that some hypotheses end before the limit."""
    weight = backbone.model.get_output_embeddings().weight
    weight[backbone.tokenizer.eos_token_id] *= factor
