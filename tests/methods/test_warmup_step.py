"""What a step says about its warmups, and plain fine-tuning beside it."""

from __future__ import annotations

import math

import pytest
import torch

from tests.conftest import ARCHITECTURES
from tests.methods.batch import LABELS, batch_of, scores_of
from warmup.config.schema import WarmupMethod
from warmup.methods.gauges import information_gauges, step_gauges, token_entropy
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.sampling import Warmups, as_written, sample_warmups
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import warmup_loss
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sft_loss_is_the_models_own_cross_entropy(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    total, found = sft_loss(backbone, Batch(ids, mask, LABELS))
    count = int((LABELS >= 0).sum())
    if architecture == "llama":
        expected = 0.0
        for row, kept, label in zip(ids, mask, LABELS, strict=True):
            source, target = row[kept.bool()].tolist(), label[label >= 0].tolist()
            labels = torch.tensor([[-100] * len(source) + target])
            expected += backbone.model(input_ids=torch.tensor([source + target]), labels=labels).loss.item() * len(
                target
            )
    else:
        expected = backbone.model(input_ids=ids, attention_mask=mask, labels=LABELS).loss.item() * count
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert found["target_nll"] == pytest.approx(expected / count, rel=1e-5)
    wider = torch.cat([LABELS, torch.full((3, 5), -100)], dim=1)
    assert sft_loss(backbone, Batch(ids, mask, wider))[0].item() == pytest.approx(total.item(), rel=1e-6)


TOKENS = torch.tensor(
    [
        [[20, 21, 22], [20, 0, 0], [20, 21, 22], [23, 0, 0]],
        [[0, 0, 0], [25, 26, 0], [0, 0, 0], [27, 28, 29]],
        [[20, 21, 22], [30, 31, 32], [33, 34, 0], [30, 31, 32]],
    ]
)
LENGTHS = torch.tensor([[3, 1, 3, 1], [0, 2, 0, 3], [3, 3, 2, 3]])
SHARES = torch.tensor([[1 / 4] * 4, [1 / 2, 1 / 4, 1 / 8, 0], [1 / 3, 1 / 3, 1 / 3, 0]], dtype=torch.float64)
WARMUPS = Warmups(TOKENS, LENGTHS, LENGTHS == 3, SHARES.log())  # two slots hold none


def test_gauges_by_hand() -> None:
    """Likelihoods that are powers of two, three inputs of 3 + 4 + 3 warmups."""
    likelihood = torch.tensor(
        [[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 2, 1 / 2, 1 / 4, 1.0], [1 / 4, 1 / 4, 1 / 2, 1.0]]
    ).double()
    found = step_gauges(WARMUPS, likelihood.log(), SHARES.log(), 1.25, LABELS, 1.0)
    evidence = [1 / 4, 13 / 32, 1 / 3]  # sum_k v_k p(y|x,c_k)
    total = sum(map(math.log, evidence))
    # log-likelihoods in units of log 2, averaged by the normalised prior weights 1/4; 4/7, 2/7, 1/7; 1/3
    means = [-9 / 4 * math.log(2), -(4 + 2 + 2) / 7 * math.log(2), -5 / 3 * math.log(2)]
    assert found == {
        "target_nll": pytest.approx(-total / 9),  # the labels are nine tokens
        "warmup/token_entropy": 1.25,
        "warmup/distinct": pytest.approx((3 + 2 + 3) / 3),
        "warmup/distinct_inputs": pytest.approx(1 / 3),
        "warmup/effective_sample_size": pytest.approx((64 / 22 + 169 / 81 + 8 / 3) / 3),
        "warmup/length": pytest.approx((8 + 2 + 8) / 10),
        "warmup/forced_separators": pytest.approx(4 / 10),
        "warmup/gain": pytest.approx((total - sum(means)) / 3),
    }
    # at temperature 1/2 squares of likelihoods are weighed: 16 : 4 : 1 : 1 for the first input
    warmer = step_gauges(WARMUPS, likelihood.log(), SHARES.log(), 1.25, LABELS, 0.5)
    sizes = [(16 + 4 + 1 + 1) ** 2 / (16**2 + 4**2 + 1 + 1), (8 + 4 + 1 / 2) ** 2 / (8**2 + 4**2 + 1 / 4), 36 / 18]
    assert warmer["warmup/effective_sample_size"] == pytest.approx(sum(sizes) / 3)
    assert warmer["target_nll"] == found["target_nll"] and warmer["warmup/gain"] == found["warmup/gain"]


def test_entropy_is_per_drawn_token() -> None:
    """A separator counts where it was drawn, not where it was forced; an empty slot counts nowhere."""
    entropy = torch.tensor([[3.0, 1.0, 3.0, 1.0], [0.5, 2.0, 0.5, 99.0], [3.0, 3.0, 2.0, 99.0]])
    drawn = (3 + 2 + 3 + 2) + (1 + 3 + 1) + (3 + 3 + 3)
    assert token_entropy(WARMUPS, entropy) == pytest.approx((8 + 3 + 8) / drawn)
    forced = Warmups(TOKENS[:1, :1], LENGTHS[:1, :1] * 0, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1))
    assert token_entropy(forced, torch.zeros(1, 1)) == 0


def test_information_gauges_are_likelihoods_with_ones_own_anothers_and_no_warmup(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    rows = [[20, 21], [22], [23, 24, 25]]
    warmups = as_written([[row, [25, 21]] for row in rows], 3, 0)
    found = information_gauges(backbone, encoded, warmups, LABELS)
    for name, kept in (("own", rows), ("shuffled", [rows[2], rows[0], rows[1]]), ("empty", [[], [], []])):
        nll = -scores_of(backbone, as_written([[row] for row in kept], 3, 0)).target_logprob.sum().item() / 9
        assert found[f"warmup/target_nll_{name}"] == pytest.approx(nll, rel=1e-5), name
    assert len({round(value, 4) for value in found.values()}) == 3
    alone = warmups.select(torch.zeros(1, 2, dtype=torch.long), torch.tensor([0]))
    single = information_gauges(backbone, encoded.select(torch.tensor([0])), alone, LABELS[:1])
    assert {*single} == {"warmup/target_nll_own", "warmup/target_nll_empty"}


def test_a_step_tells_the_gauges_of_its_own_warmups(backbone: Backbone) -> None:
    """Their entropy, effective sample size and likelihood, by the oracle."""
    ids, mask = batch_of(backbone)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=3, posterior_temperature=2.0, entropy_coef=0.0)
    seeds = input_seeds(1, 2, ids, mask, LABELS)
    loss, found = warmup_loss(backbone, method, Batch(ids, mask, LABELS), seeds)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    scores = scores_of(backbone, warmups := sample_warmups(backbone, encoded, 4, 3, Noise(seeds)))
    target = scores.target_logprob.detach()
    likelihood = (target.logsumexp(-1) - math.log(4)).sum().item()
    assert loss.item() == pytest.approx(-likelihood, rel=1e-5)
    assert found["target_nll"] == pytest.approx(-likelihood / 9, rel=1e-5)
    sizes = 1 / (target / 2).softmax(-1).square().sum(-1)
    assert found["warmup/effective_sample_size"] == pytest.approx(sizes.mean().item(), rel=1e-4)
    drawn = (warmups.lengths + ~warmups.forced).sum().item()
    assert found["warmup/token_entropy"] == pytest.approx(scores.warmup_entropy.sum().item() / drawn, rel=1e-4)


def test_entropy_bonus_makes_warmups_more_varied(make_backbone) -> None:
    """A few steps on the bonus alone must raise the entropy that the gauge shows."""
    backbone = make_backbone("llama")
    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.mul_(6)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=3, entropy_coef=100.0)
    optimizer = torch.optim.Adam(backbone.model.parameters(), lr=3e-3)
    ids, mask = batch_of(backbone)
    entropies = []
    for step in range(15):
        loss, found = warmup_loss(backbone, method, Batch(ids, mask, LABELS), input_seeds(1, step, ids, mask, LABELS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropies.append(found["warmup/token_entropy"])
    assert entropies[-1] > entropies[0] + 0.1
