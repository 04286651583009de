"""What a step says about its warmups, and plain fine-tuning beside it."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ARCHITECTURES
from tests.methods.batch import LABELS, batch_of
from warmup.config.schema import WarmupMethod
from warmup.methods.gauges import information_gauges, token_entropy, warmup_gauges
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.sampling import Warmups, even_weights, sample_warmups
from warmup.methods.scoring import score_warmups
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import warmup_loss


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sft_loss_is_the_models_own_cross_entropy(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    total, found = sft_loss(backbone, ids, mask, LABELS)
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
    assert sft_loss(backbone, ids, mask, wider)[0].item() == pytest.approx(total.item(), rel=1e-6)


def test_gauges_tell_a_collapsed_sample_from_a_diverse_one(make_backbone) -> None:
    backbone = make_backbone("t5")
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    diverse = sample_warmups(backbone, encoded, 4, 3, Noise(torch.arange(3)))
    same = diverse.select(torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, dtype=torch.long))

    def gauges(warmups: Warmups) -> dict[str, float]:
        scores = score_warmups(backbone, encoded, warmups, LABELS)
        entropy = token_entropy(warmups, scores.warmup_entropy)
        return warmup_gauges(warmups, scores.target_logprob, warmups.log_prior_weight, entropy, LABELS, 1.0)

    healthy, collapsed = gauges(diverse), gauges(same)
    assert collapsed["warmup/distinct"] == 1 < healthy["warmup/distinct"]
    assert collapsed["warmup/distinct_inputs"] == 0 < healthy["warmup/distinct_inputs"]
    assert collapsed["warmup/effective_sample_size"] == pytest.approx(4, abs=1e-3)
    assert collapsed["warmup/gain"] == pytest.approx(0, abs=1e-4)
    assert healthy["warmup/gain"] > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_information_gauges_are_likelihoods_with_ones_own_anothers_and_no_warmup(
    make_backbone, architecture: str
) -> None:
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    warmups = sample_warmups(backbone, encoded, 2, 3, Noise(torch.arange(3)))
    found = information_gauges(backbone, encoded, warmups, LABELS)
    tokens = int((LABELS >= 0).sum())
    first = warmups.select(torch.zeros(3, 1, dtype=torch.long))
    others = first.select(torch.zeros(3, 1, dtype=torch.long), torch.tensor([2, 0, 1]))
    blank = torch.zeros(3, 1, dtype=torch.long)
    empty = Warmups(torch.zeros_like(first.tokens), blank, blank.bool(), even_weights(3, 1))
    for name, part in (("own", first), ("shuffled", others), ("empty", empty)):
        expected = -score_warmups(backbone, encoded, part, LABELS).target_logprob.sum().item() / tokens
        assert found[f"warmup/target_nll_{name}"] == pytest.approx(expected, rel=1e-5)
    alone = warmups.select(torch.zeros(1, 2, dtype=torch.long), torch.tensor([0]))
    single = information_gauges(backbone, encoded.select(torch.tensor([0])), alone, LABELS[:1])
    assert "warmup/target_nll_shuffled" not in single


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
        loss, found = warmup_loss(backbone, method, ids, mask, LABELS, input_seeds(1, step, ids, mask, LABELS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropies.append(found["warmup/token_entropy"])
    assert entropies[-1] > entropies[0] + 0.1
