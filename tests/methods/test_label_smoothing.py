"""SFT with smoothed labels against torch's own cross-entropy on whole logits: loss and every gradient, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.methods.batch import LABELS, assert_same_gradients, batch_of, gradients
from tests.methods.oracle import sources_of
from warmup.methods import output_layer
from warmup.methods.sft import sft_loss
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch

TOKENS = int((LABELS >= 0).sum())


@pytest.fixture(params=["t5", "mt5", "llama", "bart"])  # tied and not, and with a bias of the output layer
def backbone(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    found = make_backbone(request.param)
    found.model.double()
    if request.param == "bart":
        torch.nn.init.normal_(found.model.final_logits_bias)
    return found


def torchs_loss(backbone: Backbone, smoothing: float) -> Tensor:
    """The sum over the batch, one input after the other, by the model's own forward pass."""
    total = torch.zeros((), dtype=torch.float64)
    for source, label in zip(sources_of(*batch_of(backbone)), LABELS, strict=True):
        target = label[label >= 0][None]
        if backbone.model.config.is_encoder_decoder:
            logits = backbone.model(input_ids=torch.tensor([source]), labels=target, use_cache=False).logits
        else:
            written = torch.cat([torch.tensor([source]), target], dim=1)
            logits = backbone.model(input_ids=written, use_cache=False).logits[:, len(source) - 1 : -1]
        total = total + cross_entropy(logits[0], target[0], label_smoothing=smoothing, reduction="sum")
    return total


@pytest.mark.parametrize("most_rows", [1000, 5, 2, 1])  # all inputs together, one at a time, parts of one
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_labels_teach_what_torchs_cross_entropy_does(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, smoothing: float, most_rows: int
) -> None:
    words = backbone.family.output_weight(backbone.model).shape[0]
    monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * words)
    loss, gauges = sft_loss(backbone, Batch(*batch_of(backbone), LABELS), smoothing)
    expected = torchs_loss(backbone, smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert_same_gradients(gradients(backbone, loss), gradients(backbone, expected))
    assert gauges["target_nll"] == pytest.approx(torchs_loss(backbone, 0.0).item() / TOKENS, rel=1e-6)


@pytest.mark.parametrize("most_rows", [1000, 2])
def test_a_bias_that_is_trained_gets_its_gradient(
    make_backbone, monkeypatch: pytest.MonkeyPatch, most_rows: int
) -> None:
    backbone = make_backbone("bart")
    backbone.model.double()
    bias = backbone.model.final_logits_bias
    torch.nn.init.normal_(bias).requires_grad_()
    monkeypatch.setattr(output_layer, "MOST_LOGITS", most_rows * bias.shape[-1])
    loss, _ = sft_loss(backbone, Batch(*batch_of(backbone), LABELS), 0.3)
    (found,) = torch.autograd.grad(loss, bias)
    (expected,) = torch.autograd.grad(torchs_loss(backbone, 0.3), bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
