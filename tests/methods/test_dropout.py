"""Dropout in a step: one mask for all warmups of an input, none where they are sampled or compared."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import WITH_BART
from tests.methods.batch import LABELS, LIMIT, assert_same_gradients, batch_of, gradients, noise_of
from warmup.config.schema import WarmupMethod
from warmup.methods import scoring
from warmup.methods.noise import input_seeds
from warmup.methods.sampling import Warmups
from warmup.methods.scoring import read_warmups, score_read, score_warmups, shared_dropout
from warmup.methods.warmup import Step, warmup_loss, warmup_step
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch
from warmup.models.modes import SharedDropout, checkpoint_contexts

SAMPLERS = ["iid", "without_replacement", "recognition", "adaptive"]


class Layers(nn.Module):
    """Two places that drop out activations, the first of them passed twice."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.first, self.second = nn.Dropout(rate), nn.Dropout(rate)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.first(values), self.first(values), self.second(values)


def test_shared_masks_keep_and_scale_as_dropout_does() -> None:
    layers = Layers(0.2).train()
    shared = SharedDropout(layers, batch=40, longest=50)
    with shared.rows(50, torch.arange(40)):
        found = layers(torch.full((40, 50, 20), 3.0))[0]
    assert found.unique().tolist() == [0.0, pytest.approx(3 / 0.8)]
    share = (found > 0).double().mean()
    assert abs(share - 0.8) < 4 * (0.2 * 0.8 / found.numel()) ** 0.5


def test_shared_masks_are_those_of_an_input_a_layer_and_a_call() -> None:
    layers = Layers(0.5).train()
    shared = SharedDropout(layers, batch=3, longest=6)
    with shared.rows(5, torch.arange(3)):  # three inputs, two continuations of five tokens each
        passed = [part.view(3, 2, 5, 8) for part in layers(torch.ones(3, 10, 8))]
    for part in passed:
        assert torch.equal(part[:, 0], part[:, 1])
        assert not torch.equal(part[0], part[1])
        assert not torch.equal(part[:, :, 0], part[:, :, 1])
        assert not torch.equal(part[..., 0], part[..., 1])
    assert not torch.equal(passed[0], passed[1]) and not torch.equal(passed[0], passed[2])
    with shared.rows(4, torch.tensor([2, 0])):  # read later: other rows of the same inputs
        later = [part.view(2, 3, 4, 8) for part in layers(torch.ones(2, 12, 8))]
    for part, before in zip(later, passed, strict=True):
        assert torch.equal(part, before[[2, 0], :1, :4].expand(2, 3, 4, 8))
    assert all(part.training and not part._forward_hooks for part in (layers.first, layers.second))
    assert isinstance(checkpoint_contexts()[1], nullcontext)  # nor is anything recomputed with these masks later
    other = SharedDropout(layers, batch=3, longest=6)  # another step has masks of its own
    with other.rows(5, torch.arange(3)):
        assert not torch.equal(layers(torch.ones(3, 10, 8))[0].view(3, 2, 5, 8), passed[0])


def test_evaluation_mode_leaves_shared_masks_out() -> None:
    layers = Layers(0.5).eval()
    with SharedDropout(layers, batch=1, longest=3).rows(3, torch.zeros(1, dtype=torch.long)):
        assert all(part.eq(1).all() for part in layers(torch.ones(1, 6, 8)))
    assert not layers.first.training


def noisy(make_backbone, architecture: str) -> Backbone:
    """Dropout in the decoder alone: what is read of a source is the same in training and evaluation."""
    backbone = make_backbone(architecture, dropout=0.3)
    backbone.model.double()
    return noise_on(backbone)


def noise_on(backbone: Backbone) -> Backbone:
    backbone.model.train()
    backbone.model.get_encoder().eval()
    return backbone


def step_of(backbone: Backbone, method: WarmupMethod, seed: int = 3) -> Step:
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))
    torch.manual_seed(seed)
    return warmup_step(backbone, method, encoded, LABELS, noise_of(backbone))


def quiet_scores(backbone: Backbone, step: Step) -> Tensor:
    """log p(y|x,c) [B, K] in evaluation mode."""
    backbone.model.eval()
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))
    found = score_warmups(backbone, encoded, step.warmups, LABELS).target_logprob
    noise_on(backbone)
    return found


def all_apart(warmups: Warmups) -> tuple[Tensor, Tensor]:
    """Instead of `scoring._slots`: equal warmups are not read once, but each for itself."""
    present = warmups.log_prior_weight > float("-inf")
    return torch.arange(warmups.count).expand_as(present), present.clone()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("architecture", ["t5", "mt5"])
def test_equal_warmups_get_equal_weights_wherever_they_stand(
    make_backbone, monkeypatch: pytest.MonkeyPatch, architecture: str, sampler: str
) -> None:
    """No mask depends on which of the K a warmup is, on what stands beside it, or on the row it is read in."""
    backbone = noisy(make_backbone, architecture)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, sampler=sampler)
    step = step_of(backbone, method)
    learnt = gradients(backbone, step.loss)
    present = step.warmups.log_prior_weight > float("-inf")
    assert ((step.target_logprob - quiet_scores(backbone, step))[present].abs() > 1e-3).all()  # there is dropout
    for place, value in (("_slots", all_apart), ("MOST_IN_A_ROW", 1)):
        monkeypatch.setattr(scoring, place, value)
        other = step_of(backbone, method)
        torch.testing.assert_close(other.target_logprob[present], step.target_logprob[present], rtol=0, atol=1e-5)
        assert_same_gradients(gradients(backbone, other.loss), learnt)
    assert backbone.model.get_decoder().training


def test_what_is_read_later_meets_the_masks_of_its_input(make_backbone) -> None:
    """`adaptive` reads its second half for some inputs only: the scores are those of reading all of it at once."""
    backbone = noisy(make_backbone, "t5")
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, sampler="adaptive")
    step = step_of(backbone, method)
    present = step.warmups.log_prior_weight > float("-inf")
    assert present[:-1].sum(-1).min() == 2 < present[-1].sum()  # the last input is read later, one before it is not
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))
    torch.manual_seed(3)
    read = read_warmups(backbone, encoded, step.warmups, LABELS, shared_dropout(backbone, LIMIT, LABELS))
    found = score_read(backbone, read).target_logprob
    torch.testing.assert_close(found[present], step.target_logprob[present], rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_warmups_are_drawn_without_dropout(make_backbone, sampler: str) -> None:
    backbone = noisy(make_backbone, "t5")
    method = WarmupMethod(num_samples=4, max_warmup_tokens=6, sampler=sampler)
    found = step_of(backbone, method).warmups.tokens
    backbone.model.eval()
    expected = step_of(backbone, method).warmups.tokens
    kept = 2 if sampler == "adaptive" else 4  # scores, and so what they are told to draw further, have dropout
    assert torch.equal(found[:, :kept], expected[:, :kept])


@pytest.mark.parametrize("architecture", ["t5", "mt5"])
def test_resampling_compares_without_dropout_and_learns_with_it(make_backbone, architecture: str) -> None:
    backbone = noisy(make_backbone, architecture)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, objective="resample")
    step, other = step_of(backbone, method), step_of(backbone, method, seed=4)
    quiet = quiet_scores(backbone, step)
    torch.testing.assert_close(step.target_logprob, quiet, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.target_logprob, quiet, rtol=0, atol=1e-5)
    learnt = [torch.cat([part.flatten() for part in gradients(backbone, each.loss)]) for each in (step, other)]
    assert (learnt[0] - learnt[1]).norm() > 0.1 * learnt[0].norm()


def test_information_gauges_are_measured_without_dropout(make_backbone) -> None:
    backbone = noisy(make_backbone, "t5")
    method = WarmupMethod(num_samples=2, max_warmup_tokens=LIMIT)
    ids, mask = batch_of(backbone)
    seeds = input_seeds(1, 2, ids, mask, LABELS)
    _, found = warmup_loss(backbone, method, Batch(ids, mask, LABELS), seeds, measure=True)
    backbone.model.eval()
    _, expected = warmup_loss(backbone, method, Batch(ids, mask, LABELS), seeds, measure=True)
    for name, value in expected.items():
        if name.startswith("warmup/target_nll"):
            assert found[name] == pytest.approx(value, abs=1e-6), name
    assert found["target_nll"] != pytest.approx(expected["target_nll"], abs=1e-3)


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [("marginal", "iid"), ("marginal", "recognition"), ("marginal", "adaptive"), ("resample", "iid")],
)
def test_gradient_checkpointing_changes_nothing_and_stays_on(make_backbone, objective: str, sampler: str) -> None:
    """With dropout: what is recomputed in the backward pass must meet the masks of the forward pass."""
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, objective=objective, sampler=sampler)
    for architecture in WITH_BART:
        results, calls = [], 0
        for checkpointing in (False, True):
            backbone = make_backbone(architecture, dropout=0.3)
            backbone.model.double()
            if checkpointing:
                backbone.model.gradient_checkpointing_enable(
                    {"use_reentrant": False, "context_fn": checkpoint_contexts}
                )
            backbone.model.train()
            decoder = backbone.model.get_decoder()
            block = (decoder.layers if hasattr(decoder, "layers") else decoder.block)[0]

            def count(*_: object) -> None:
                nonlocal calls
                calls += torch.is_grad_enabled()

            block.register_forward_pre_hook(count)
            calls = 0
            ids, mask = batch_of(backbone)
            torch.manual_seed(3)
            loss, _ = warmup_loss(backbone, method, Batch(ids, mask, LABELS), input_seeds(1, 2, ids, mask, LABELS))
            before = calls
            results.append(gradients(backbone, loss))
        assert calls == 2 * before  # each checkpointed block ran again in the backward pass
        assert_same_gradients(results[1], results[0])
