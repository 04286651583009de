"""Recorded decoding loops against plain ones. There is no GPU here: a stand-in for CUDA graphs has their strictness."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import ARCHITECTURES
from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.sampling import Warmups
from warmup.methods.warmup import draw_warmups
from warmup.models.backbone import Backbone
from warmup.models.cuda_graphs import Recordings
from warmup.models.encoding import source_batch
from warmup.models.sharpening import Sharpening

IID = WarmupMethod(num_samples=3, max_warmup_tokens=4)
TEMPERED = WarmupMethod(num_samples=3, max_warmup_tokens=4, sampling_temperature=0.7)
WITHOUT_REPLACEMENT = WarmupMethod(num_samples=3, max_warmup_tokens=4, sampler="without_replacement")


class NoValueLeavesTheDevice(TorchDispatchMode):
    """What a stream that is being captured refuses: to hand a value to Python, or to fetch data from main memory."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.__name__.partition(".")[0]
        fetched = name == "lift_fresh" and args[0].numel() > 0
        if fetched or name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        return operation(*args, **(kwargs or {}))


class StandIn:
    """Runs the loop on the recorded input tensors, whose contents alone can change from one replay to the next."""

    device = "cpu"
    made: list[StandIn] = []

    def __init__(self, loop: Any, inputs: tuple[Tensor, ...], pool: Any) -> None:
        self.loop, self.inputs = loop, tuple(part.clone() for part in inputs)
        with NoValueLeavesTheDevice():
            loop(*self.inputs)
        self.made.append(self)

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for kept, given in zip(self.inputs, inputs, strict=True):
            assert kept.shape == given.shape
            kept.copy_(given)
        return self.loop(*self.inputs)

    @staticmethod
    def new_pool() -> None:
        return None


@pytest.fixture(autouse=True)
def _none_made_yet() -> None:
    StandIn.made = []


def draw(backbone: Backbone, method: WarmupMethod, rows: list[list[int]], recordings: Recordings) -> Warmups:
    backbone.recordings = recordings
    ending = backbone.tokenizer.eos_token_id if backbone.model.config.is_encoder_decoder else backbone.separator_id
    batch = source_batch(backbone, [[*row, ending] for row in rows])
    with torch.no_grad():
        encoded = backbone.family.encode(backbone.model, batch["input_ids"], batch["attention_mask"])
    return draw_warmups(backbone, method, encoded, Noise(torch.arange(len(rows)) + 7))


def assert_equal(found: Warmups, expected: Warmups) -> None:
    for name in ("tokens", "lengths", "forced"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    torch.testing.assert_close(found.log_prior_weight, expected.log_prior_weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [IID, TEMPERED, WITHOUT_REPLACEMENT], ids=["iid", "tempered", "without_replacement"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_recorded_loop_draws_the_same_warmups(make_backbone, architecture: str, method: WarmupMethod) -> None:
    """Also from other sources, with other weights, and with another number of inputs; one recording for each shape."""
    backbone = make_backbone(architecture)
    recordings, plain = Recordings(StandIn), Recordings()
    short, longer = [[265, 270], [266, 280, 268]], [[267, 281, 290, 291, 292], [265]]
    for rows, recorded in ((short, 1), (short, 1), (longer, 1), (longer[:1], 2), (short, 2)):
        found = draw(backbone, method, rows, recordings)
        assert_equal(found, draw(backbone, method, rows, plain))
        assert len(StandIn.made) == recorded
        with torch.no_grad():
            for part in backbone.model.parameters():
                part.mul_(1.1)  # in place, as an optimiser does


@pytest.mark.parametrize("method", [IID, WITHOUT_REPLACEMENT], ids=["iid", "without_replacement"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sharpened_distribution_is_recorded_as_it_is_drawn_from(
    make_backbone, architecture: str, method: WarmupMethod
) -> None:
    """Another one is recorded anew."""
    backbone = make_backbone(architecture)
    recordings, rows = Recordings(StandIn), [[265, 270], [266, 280, 268]]
    for sharpening, recorded in ((Sharpening(0.5, 0.6), 1), (Sharpening(), 2), (Sharpening(0.5, 0.6), 2)):
        backbone.sharpening = sharpening
        assert_equal(draw(backbone, method, rows, recordings), draw(backbone, method, rows, Recordings()))
        assert len(StandIn.made) == recorded


def test_weights_that_moved_are_recorded_anew(make_backbone) -> None:
    backbone, recordings = make_backbone("t5"), Recordings(StandIn)
    draw(backbone, IID, [[265, 270]], recordings)
    layer = backbone.model.get_decoder().block[0].layer[0].SelfAttention.q
    layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
    draw(backbone, IID, [[265, 270]], recordings)
    assert len(StandIn.made) == 2


def test_sources_that_were_not_kept_are_read_before(make_backbone) -> None:
    """With gradient checkpointing Llama keeps no keys and values of a source."""
    backbone = make_backbone("llama")
    backbone.recordings = Recordings(StandIn)
    batch = source_batch(backbone, [[265, 270, backbone.separator_id]])
    parts = (backbone.model, batch["input_ids"], batch["attention_mask"])
    kept, unread = backbone.family.encode(*parts), backbone.family.encode(*parts, shared=False)
    assert unread.states is None
    noise = torch.arange(1)
    assert_equal(draw_warmups(backbone, IID, unread, Noise(noise)), draw_warmups(backbone, IID, kept, Noise(noise)))
    assert len(StandIn.made) == 1


class Failing(StandIn):
    def __init__(self, *_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


class Wrong(StandIn):
    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(part) for part in super().replay(inputs))


@pytest.mark.parametrize("kind", [Failing, Wrong])
def test_what_cannot_be_recorded_runs_as_it_is_and_says_so_once(
    make_backbone, caplog: pytest.LogCaptureFixture, kind: type[StandIn]
) -> None:
    backbone, recordings = make_backbone("t5"), Recordings(kind)
    with caplog.at_level(logging.WARNING):
        for rows in ([[265, 270]], [[266, 280], [267]]):
            found = draw(backbone, IID, rows, recordings)
            assert_equal(found, draw(backbone, IID, rows, Recordings()))
    assert len(caplog.records) == 1
    assert "token by token" in caplog.records[0].getMessage()


def test_nothing_is_recorded_on_a_cpu(make_backbone) -> None:
    backbone = make_backbone("t5")
    assert not Recordings().records(backbone.model, torch.device("cpu"))
