"""One training step of the method: dropout, gauges, gradients in bfloat16, and equality with a plain reading."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ARCHITECTURES
from warmup.config.schema import WarmupMethod
from warmup.methods.sampling import Warmups, sample_warmups
from warmup.methods.scoring import score_targets, score_warmups
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import gauges, warmup_loss
from warmup.models.encoding import source_batch
from warmup.models.families import dropout_off

SOURCES = [[265, 270, 268, 271], [266, 280]]
LABELS = torch.tensor([[7, 8, 9, 1], [11, 1, -100, -100]])


def batch_of(backbone):
    ending = backbone.separator_id if backbone.tokenizer.bos_token else backbone.tokenizer.eos_token_id
    batch = source_batch(backbone, [[*row, ending] for row in SOURCES])
    return batch["input_ids"], batch["attention_mask"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batched_scores_equal_those_of_each_continuation_alone(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    backbone.model.double()
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    warmups = Warmups(
        torch.tensor([[[20, 21, 22], [23, 0, 0]], [[0, 0, 0], [24, 25, 0]]]),
        torch.tensor([[3, 1], [0, 2]]),
        torch.tensor([[True, False], [False, False]]),
    )
    together = score_warmups(backbone, encoded, warmups, LABELS)
    never = backbone.never_in_warmup
    for row in range(2):
        source = ids[row : row + 1, mask[row].bool()]
        alone = backbone.family.encode(backbone.model, source, torch.ones_like(source))
        target = [token for token in LABELS[row].tolist() if token >= 0]
        for k in range(2):
            length = int(warmups.lengths[row, k])
            written = warmups.tokens[row, k, :length].tolist()
            tokens = torch.tensor([[[*written, backbone.separator_id, *target]]])
            logits = backbone.family.logits(backbone.model, alone, tokens, torch.ones_like(tokens))[0, 0]
            drawn = length + int(not warmups.forced[row, k])
            allowed = logits[:drawn].masked_fill(never, float("-inf")).log_softmax(-1)
            expected_warmup = sum(allowed[t, tokens[0, 0, t]].item() for t in range(drawn))
            expected_entropy = sum(-(p[p > 0] * p[p > 0].log()).sum().item() for p in allowed.exp())
            plain = logits.log_softmax(-1)
            expected_target = sum(plain[t, tokens[0, 0, t]].item() for t in range(length + 1, tokens.shape[-1]))
            assert together.target_logprob[row, k].item() == pytest.approx(expected_target, abs=1e-5)
            assert together.warmup_logprob[row, k].item() == pytest.approx(expected_warmup, abs=1e-5)
            assert together.warmup_entropy[row, k].item() == pytest.approx(expected_entropy, abs=1e-5)
            assert together.warmup_positions[row, k].item() == drawn


@pytest.mark.parametrize("architecture", ["t5", "mt5"])
def test_equal_warmups_get_equal_weights_in_spite_of_dropout(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture, dropout=0.5)
    backbone.model.train()
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    one = Warmups(torch.tensor([[[20, 21]] * 4] * 2), torch.full((2, 4), 2), torch.ones(2, 4, dtype=torch.bool))
    noisy = score_warmups(backbone, encoded, one, LABELS).target_logprob
    with dropout_off(backbone.family.scorer(backbone.model)):
        quiet = score_warmups(backbone, encoded, one, LABELS).target_logprob
    assert noisy.std(-1).min() > 1e-3
    torch.testing.assert_close(quiet, quiet[:, :1].expand_as(quiet))
    assert backbone.model.get_decoder().training and backbone.model.get_encoder().training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_changes_nothing_and_stays_on(make_backbone, architecture: str) -> None:
    method = WarmupMethod(num_samples=3, max_warmup_tokens=3)
    gradients = []
    for checkpointing in (False, True):
        backbone = make_backbone(architecture, dropout=0.0)
        if checkpointing:
            backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
        backbone.model.train()
        calls = 0
        block = backbone.model.get_decoder().layers[0] if architecture == "llama" else backbone.model.decoder.block[0]

        def count(*_: object) -> None:
            nonlocal calls
            calls += torch.is_grad_enabled()

        block.register_forward_pre_hook(count)
        torch.manual_seed(3)
        loss, _ = warmup_loss(backbone, method, *batch_of(backbone), LABELS)
        loss.backward()
        gradients.append([p.grad.clone() for p in backbone.model.parameters()])
        assert calls == (2 if checkpointing else 1)  # a checkpointed block runs again in the backward pass
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-4 * float(plain.abs().max()) + 1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_learns_under_bfloat16_autocast(make_backbone, architecture: str) -> None:
    """Sampling without gradient must not leave weight copies without gradient in autocast's cache."""
    backbone = make_backbone(architecture)
    backbone.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, found = warmup_loss(
            backbone, WarmupMethod(num_samples=4, max_warmup_tokens=3), *batch_of(backbone), LABELS
        )
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.model.parameters())
    assert 0 < found["warmup/token_entropy"] < 6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sft_loss_is_the_models_own_cross_entropy(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    total, found = sft_loss(backbone, ids, mask, LABELS)
    if architecture == "llama":
        rows = [[*row, *[t for t in label if t >= 0]] for row, label in zip(ids.tolist(), LABELS.tolist(), strict=True)]
        expected = 0.0
        for row, kept, label in zip(rows, mask, LABELS, strict=True):
            row = row[int((kept == 0).sum()) :]
            count = int((label >= 0).sum())
            sequence = torch.tensor([row])
            targets = sequence.clone()
            targets[:, : len(row) - count] = -100
            expected += backbone.model(input_ids=sequence, labels=targets).loss.item() * count
    else:
        expected = backbone.model(input_ids=ids, attention_mask=mask, labels=LABELS).loss.item() * 6
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert found["target_nll"] == pytest.approx(expected / 6, rel=1e-5)


def test_the_empty_target_tokens_of_padding_count_nothing(make_backbone) -> None:
    backbone = make_backbone("t5")
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    wider = torch.cat([LABELS, torch.full((2, 5), -100)], dim=1)
    torch.testing.assert_close(score_targets(backbone, encoded, wider), score_targets(backbone, encoded, LABELS))


def test_gauges_tell_a_collapsed_sample_from_a_diverse_one(make_backbone) -> None:
    backbone = make_backbone("t5")
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))
    diverse = sample_warmups(backbone, encoded, 4, 3)
    same = Warmups(*(part[:, :1].expand_as(part).clone() for part in (diverse.tokens, diverse.lengths, diverse.forced)))
    healthy = gauges(diverse, score_warmups(backbone, encoded, diverse, LABELS), LABELS, 1.0)
    collapsed = gauges(same, score_warmups(backbone, encoded, same, LABELS), LABELS, 1.0)
    assert collapsed["warmup/distinct"] == 1 < healthy["warmup/distinct"]
    assert collapsed["warmup/effective_sample_size"] == pytest.approx(4, abs=1e-3)
    assert collapsed["warmup/gain"] == pytest.approx(0, abs=1e-4)
    assert healthy["warmup/gain"] > 0


def test_entropy_bonus_makes_warmups_more_varied(make_backbone) -> None:
    """A few steps on the bonus alone must raise the entropy that the gauge shows."""
    backbone = make_backbone("llama")
    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.mul_(6)
    method = WarmupMethod(num_samples=4, max_warmup_tokens=3, entropy_coef=100.0)
    optimizer = torch.optim.Adam(backbone.model.parameters(), lr=3e-3)
    entropies = []
    for _ in range(15):
        loss, found = warmup_loss(backbone, method, *batch_of(backbone), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropies.append(found["warmup/token_entropy"])
    assert entropies[-1] > entropies[0] + 0.1
