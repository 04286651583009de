"""Warmups made of some tokens alone, and separators of several tokens, against the formulas."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tests.methods import batch
from tests.methods.test_sharpening import assert_equals_oracle
from warmup.answering.answerer import Answerer
from warmup.config.schema import EvaluationConfig, WarmupMethod
from warmup.methods import output_layer
from warmup.methods.noise import Noise
from warmup.methods.sampling import as_written, sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.methods.without_replacement import sample_without_replacement
from warmup.models import backbone as backbones
from warmup.models.backbone import Backbone, never_in_warmups
from warmup.models.checkpoint_settings import Limits
from warmup.models.sharpening import Sharpening

QUOTING = Sharpening(vocabulary="{source}")
ESTIMATORS = [
    {},
    {"objective": "elbo"},
    {"sampler": "without_replacement"},
    {"sampler": "adaptive", "num_samples": 5},
    {"sampling_temperature": 2.0, "sampling_top_p": 0.9},
]


def read(backbone: Backbone):
    return backbone.family.encode(backbone.model, *batch.batch_of(backbone))


@pytest.fixture(params=["t5", "llama"])
def quoting(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    backbone = make_backbone(request.param)
    backbone.model.double()
    backbone.sharpening = QUOTING
    return backbone


@pytest.mark.parametrize("changes", ESTIMATORS, ids=str)
@pytest.mark.parametrize("before_target", [(), (40, 41)], ids=["sep", "worded"])
@pytest.mark.parametrize("most_rows", [None, 4])
def test_every_estimator_equals_its_formula(
    quoting: Backbone, monkeypatch: pytest.MonkeyPatch, before_target: tuple, changes: dict, most_rows: int | None
) -> None:
    quoting.before_target = before_target
    if most_rows:
        words = quoting.family.output_weight(quoting.model).shape[0]
        monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * words)
    method = {"num_samples": 4, "max_warmup_tokens": batch.LIMIT, "entropy_coef": 0.1} | changes
    assert_equals_oracle(quoting, WarmupMethod(**method))


def test_warmups_hold_tokens_of_their_own_source_alone(quoting: Backbone) -> None:
    with torch.no_grad():
        encoded = read(quoting)
        for draw in (sample_warmups, sample_without_replacement):
            drawn = draw(quoting, encoded, 20, batch.LIMIT, Noise(torch.arange(3)))
            kept = drawn.log_prior_weight > float("-inf")  # there are fewer than 20 of the shortest source
            for source, rows, lengths, there in zip(batch.SOURCES, drawn.tokens, drawn.lengths, kept, strict=True):
                pairs = zip(rows[there].tolist(), lengths[there].tolist(), strict=True)
                found = {token for row, length in pairs for token in row[:length]}
                assert found and found <= set(source)


def test_the_probabilities_of_all_quotations_sum_to_one(quoting: Backbone) -> None:
    limit = 3
    with torch.no_grad():
        encoded = read(quoting)
        total = [0.0] * 3
        for number, source in enumerate(batch.SOURCES):
            every = [list(c) for n in range(limit + 1) for c in product(sorted(set(source)), repeat=n)]
            inputs = torch.tensor([number])
            written = as_written([every], limit, quoting.tokenizer.pad_token_id)
            scores = score_warmups(quoting, encoded.select(inputs), written, batch.LABELS[inputs])
            total[number] = scores.warmup_logprob.exp().sum().item()
    assert total == pytest.approx([1.0] * 3, abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_decoded_warmups_quote_too(quoting: Backbone, beams: int) -> None:
    quoting.model.float()
    with torch.no_grad():
        answerer = Answerer(quoting, Limits(16, batch.LIMIT, 4), EvaluationConfig(warmup_num_beams=beams))
        written = answerer.write_warmups(read(quoting))
    assert any(written) == quoting.family.is_encoder_decoder  # the tiny Llama ends at once
    assert all(set(row) <= set(source) for row, source in zip(written, batch.SOURCES, strict=True))


def test_a_text_of_words_allows_their_tokens(make_backbone) -> None:
    backbone = make_backbone("llama")
    backbone.sharpening = Sharpening(vocabulary="+ 12")
    allowed = (~never_in_warmups(backbone, read(backbone))).nonzero().flatten().tolist()
    forms = [form for word in ("+", "12") for form in (word, f" {word}")]
    words = {token for form in forms for token in backbone.tokenizer(form, add_special_tokens=False)["input_ids"]}
    assert set(allowed) == {backbone.separator_id, *words}


def test_a_vocabularys_text_is_read_once(quoting: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every step; another text is another vocabulary."""
    read_texts, plain = [], backbones.word_ids
    monkeypatch.setattr(backbones, "word_ids", lambda _, text: read_texts.append(text) or plain(_, text))
    with torch.no_grad():
        encoded = read(quoting)
        for vocabulary in ("{source} the dog", "{source} the cat", "{source} the dog"):
            quoting.sharpening = Sharpening(vocabulary=vocabulary)
            allowed = ~never_in_warmups(quoting, encoded)
            assert all(allowed[:, plain(quoting.tokenizer, vocabulary.split()[-1])].flatten())
    assert read_texts == ["  the dog", "  the cat"]
