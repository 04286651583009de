"""SFT after pause tokens against plain Hugging Face forwards that hold them: loss and every gradient, in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import WITH_BART
from tests.methods.batch import LABELS, assert_same_gradients, batch_of, gradients
from tests.methods.oracle import sources_of
from warmup.config.schema import PauseMethod
from warmup.methods.sft import sft_loss
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch
from warmup.models.loading import add_pause
from warmup.training.method_model import MethodModel

PAUSES = 3


@pytest.fixture(params=WITH_BART)
def backbone(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    found = make_backbone(request.param)
    add_pause(found)
    found.model.double()
    return found


def plain_loss(backbone: Backbone, pauses: int) -> torch.Tensor:
    """-log p(y | x, <pause> .. <pause> <sep>), one input at a time, by Hugging Face's own loss."""
    pause = backbone.tokenizer.get_vocab()["<pause>"]
    before = [pause] * pauses + [backbone.tokenizer.get_vocab()["<sep>"]]
    total = torch.zeros((), dtype=torch.float64)
    for source, label in zip(sources_of(*batch_of(backbone)), LABELS, strict=True):
        target = label[label >= 0].tolist()
        unlearnt = [-100] * len(before)
        if backbone.model.config.is_encoder_decoder:
            start = backbone.model.config.decoder_start_token_id
            found = backbone.model(
                input_ids=torch.tensor([source]),
                decoder_input_ids=torch.tensor([[start, *before, *target[:-1]]]),
                labels=torch.tensor([[*unlearnt, *target]]),
                use_cache=False,
            )
        else:
            found = backbone.model(
                input_ids=torch.tensor([[*source, *before, *target]]),
                labels=torch.tensor([[*[-100] * len(source), *unlearnt, *target]]),
                use_cache=False,
            )
        total = total + found.loss * len(target)
    return total


def test_loss_and_gradients_are_those_of_explicit_pauses(backbone: Backbone) -> None:
    loss, gauges = sft_loss(backbone, Batch(*batch_of(backbone), LABELS), prefix=backbone.pause_prefix(PAUSES))
    found = gradients(backbone, loss)
    expected = plain_loss(backbone, PAUSES)
    tokens = int((LABELS >= 0).sum())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert gauges["target_nll"] == pytest.approx(expected.item() / tokens, rel=1e-6)
    assert_same_gradients(found, gradients(backbone, expected))
    pause = backbone.tokenizer.get_vocab()["<pause>"]
    assert backbone.model.get_input_embeddings().weight.grad[pause].abs().max() > 0  # it is learnt
    others = (plain_loss(backbone, PAUSES - 1), plain_loss(backbone, PAUSES + 1))
    assert all(abs(loss.item() - other.item()) > 1e-4 for other in others)  # their number matters


def test_the_method_puts_its_pauses_before_every_target(backbone: Backbone) -> None:
    model = MethodModel(backbone, PauseMethod(num_tokens=PAUSES))
    loss = model(*batch_of(backbone), LABELS)["loss"].item()
    assert loss == pytest.approx(plain_loss(backbone, PAUSES).item() / int((LABELS >= 0).sum()), rel=1e-6)


def test_the_pause_token_is_no_text_and_in_no_warmup(make_backbone, backbone: Backbone) -> None:
    pause = backbone.tokenizer.get_vocab()["<pause>"]
    assert backbone.tokenizer.decode([pause, 270], skip_special_tokens=True) == backbone.tokenizer.decode([270])
    assert backbone.never_in_warmup[pause] and len(backbone.never_in_warmup) > pause
    assert backbone.pause_prefix(None) == []
    plain = make_backbone(backbone.model.config.model_type)
    assert "<pause>" not in plain.tokenizer.get_vocab()  # other methods' vocabularies stay as they were
    assert {f.name for f in dataclasses.fields(PauseMethod)} == {"name", "num_tokens"}
