"""Every shortcut of the engine against the naive computation: loss and every gradient, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import ARCHITECTURES, WITH_BART
from warmup.config.schema import WarmupMethod
from warmup.methods import output_layer, scoring
from warmup.methods.naive import naive_loss, naive_sample, naive_scores
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.sampling import Warmups, even_weights
from warmup.methods.scoring import read_warmups, score_read, score_warmups, shared_dropout, weigh_read
from warmup.methods.warmup import draw_warmups, warmup_loss, warmup_step
from warmup.models.encoding import IGNORED_LABEL, source_batch
from warmup.models.loading import Backbone
from warmup.models.modes import checkpoint_contexts, dropout_off

SOURCES = [[265, 270, 268, 271], [266, 280], [267, 281, 290, 291, 292]]
LABELS = torch.tensor([[7, 8, 9, 1], [11, 1, -100, -100], [12, 13, 1, -100]])
LIMIT = 3


@pytest.fixture(params=WITH_BART)
def backbone(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    found = make_backbone(request.param)
    found.model.double()
    return found


def batch_of(backbone: Backbone) -> tuple[Tensor, Tensor]:
    ending = backbone.tokenizer.eos_token_id if backbone.model.config.is_encoder_decoder else backbone.separator_id
    batch = source_batch(backbone, [[*row, ending] for row in SOURCES])
    return batch["input_ids"], batch["attention_mask"]


def noise_of(backbone: Backbone) -> Noise:
    return Noise(input_seeds(1, 2, *batch_of(backbone), LABELS))


def gradients(backbone: Backbone, loss: Tensor) -> list[Tensor]:
    backbone.model.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in backbone.model.parameters()]


def assert_same_gradients(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(part.abs().max().item() for part in expected)
    assert largest > 0
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=1e-5 * largest)


def assert_equals_naive(backbone: Backbone, method: WarmupMethod) -> Warmups:
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    step = warmup_step(backbone, method, encoded, LABELS, noise_of(backbone))
    found = gradients(backbone, step.loss)
    scores = naive_scores(backbone, ids, mask, step.warmups, LABELS)
    present = step.warmups.log_prior_weight > float("-inf")
    exact = scores.target_logprob.detach()[present]
    torch.testing.assert_close(step.target_logprob[present], exact, rtol=0, atol=1e-5)
    loss = naive_loss(
        scores,
        step.warmups,
        method.objective,
        method.baseline,
        method.posterior_temperature,
        method.entropy_coef,
    )
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_same_gradients(found, gradients(backbone, loss))
    return step.warmups


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_step_equals_the_naive_one(backbone: Backbone, count: int) -> None:
    with torch.no_grad():  # so that some warmups end early, and some do not
        backbone.model.get_output_embeddings().weight[backbone.separator_id] *= 3
    method = WarmupMethod(num_samples=count, max_warmup_tokens=LIMIT, entropy_coef=0.1)
    assert_equals_naive(backbone, method)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "vimco"},
        {"objective": "elbo"},
        {"baseline": "loo"},
        {"baseline": "none"},
        {"posterior_temperature": 3.0},
        {"sampling_temperature": 2.0},
        {"sampling_top_p": 0.5},
        {"sampler": "without_replacement"},
        {"sampler": "adaptive"},
    ],
    ids=str,
)
def test_every_estimator_equals_the_naive_one(backbone: Backbone, changes: dict) -> None:
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, entropy_coef=0.1, **changes)
    warmups = assert_equals_naive(backbone, method)
    if method.sampler == "adaptive":
        present = warmups.log_prior_weight > float("-inf")
        assert present.sum() == 4 * len(LABELS)
        assert present.sum(-1).min() >= 2


def test_ragged_forced_sampled_and_repeated_warmups_equal_the_naive_scores(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    tokens = [[[20, 21, 22], [23, 0, 0], [20, 21, 22]], [[0, 0, 0], [24, 25, 0], [0, 0, 0]], [[26, 0, 0]] * 3]
    lengths = torch.tensor([[3, 1, 3], [0, 2, 0], [1, 1, 1]])
    warmups = Warmups(torch.tensor(tokens), lengths, lengths == LIMIT, even_weights(3, 3))
    encoded = backbone.family.encode(backbone.model, ids, mask)
    read = read_warmups(backbone, encoded, warmups, LABELS)
    assert read.copies.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    found, expected = score_read(backbone, read), naive_scores(backbone, ids, mask, warmups, LABELS)
    for name, values in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), values.detach(), rtol=0, atol=1e-5)

    def loss(totals, inputs):
        mixed = totals.target_logprob * torch.tensor([1.0, 2.0, 3.0]) + 0.5 * totals.warmup_logprob
        return (mixed + 0.1 * totals.warmup_entropy).sum(-1)

    value, _ = weigh_read(backbone, read, loss)
    assert_same_gradients(gradients(backbone, value), gradients(backbone, loss(expected, slice(None)).sum()))


def test_equal_warmups_are_computed_once(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)

    def operations(count: int) -> int:
        lengths = torch.full((3, count), 2)
        warmups = Warmups(torch.tensor([[[20, 21, 0]] * count] * 3), lengths, lengths == LIMIT, even_weights(3, count))
        with FlopCounterMode(display=False) as counter:
            score_warmups(backbone, encoded, warmups, LABELS)
        return counter.get_total_flops()

    assert operations(1) == operations(6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_may_stand_on_either_side(backbone: Backbone, side: str) -> None:
    rows = [[*row, 1 if backbone.model.config.is_encoder_decoder else backbone.separator_id] for row in SOURCES]
    longest = max(map(len, rows)) + 2
    padded = [([0] * (longest - len(r)) + r) if side == "left" else (r + [0] * (longest - len(r))) for r in rows]
    ids = torch.tensor(padded)
    mask = (ids != 0).long()
    method = WarmupMethod(num_samples=2, max_warmup_tokens=LIMIT)
    results = []
    for source, kept in (batch_of(backbone), (ids, mask)):
        encoded = backbone.family.encode(backbone.model, source, kept)
        warmups = draw_warmups(backbone, method, encoded, noise_of(backbone))
        results.append((warmups.tokens, score_warmups(backbone, encoded, warmups, LABELS).target_logprob))
    if not backbone.model.config.is_encoder_decoder or side == "right":  # T5 never pads on the left: positions shift
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("limit", ["MOST_LOGITS", "MOST_IN_A_ROW"])
def test_small_chunks_change_nothing(backbone: Backbone, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Chunks of fewer positions than an input has, and rows of a single warmup."""
    words = backbone.family.output_weight(backbone.model).shape[0]
    monkeypatch.setattr(*((output_layer, limit, 4 * words) if limit == "MOST_LOGITS" else (scoring, limit, 9)))
    assert_equals_naive(backbone, WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, entropy_coef=0.1))


def test_logits_never_exist_whole(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    words = backbone.family.output_weight(backbone.model).shape[0]
    monkeypatch.setattr(output_layer, "MOST_LOGITS", 40 * words)
    sizes, plain = [], output_layer._Layer.logits
    monkeypatch.setattr(output_layer._Layer, "logits", lambda *a: sizes.append((found := plain(*a)).numel()) or found)
    ids, mask = batch_of(backbone)
    seeds = input_seeds(1, 2, ids, mask, LABELS)
    warmup_loss(backbone, WarmupMethod(num_samples=8, max_warmup_tokens=LIMIT), ids, mask, LABELS, seeds)
    assert len(sizes) > 2 and max(sizes) <= 40 * words


def test_resampling_learns_from_one_warmup(backbone: Backbone) -> None:
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, objective="resample", entropy_coef=0.0)
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    step = warmup_step(backbone, method, encoded, LABELS, noise_of(backbone))
    found = gradients(backbone, step.loss)
    scores = naive_scores(backbone, ids, mask, step.warmups, LABELS)
    likelihood = scores.target_logprob.logsumexp(-1) - torch.tensor(4.0).log()
    assert step.loss.item() == pytest.approx(-likelihood.sum().item(), rel=1e-6)
    other = step.measured  # the baseline's draw
    compared = naive_scores(backbone, ids, mask, other, LABELS).warmup_logprob.sum()
    parameters = list(backbone.model.parameters())
    candidates = []
    for choice in torch.cartesian_prod(*[torch.arange(4)] * 3)[:, :, None]:
        joint = scores.target_logprob.gather(1, choice) + scores.warmup_logprob.gather(1, choice)
        parts = torch.autograd.grad(compared - joint.sum(), parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parts, strict=True)
        candidates.append(max((a - (0 if b is None else b)).abs().max().item() for a, b in pairs))
    largest = max(part.abs().max().item() for part in found)
    assert min(candidates) < 1e-5 * largest  # it is one of the 4^3 possible draws


@pytest.mark.parametrize("objective", ["marginal", "resample"])
@pytest.mark.parametrize("sampler", ["iid", "recognition", "adaptive"])
def test_gradient_checkpointing_changes_nothing_and_stays_on(make_backbone, objective: str, sampler: str) -> None:
    """With dropout: what is recomputed in the backward pass must meet the masks of the forward pass."""
    if objective == "resample" and sampler != "iid":
        pytest.skip("no such combination")
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
            loss, _ = warmup_loss(backbone, method, ids, mask, LABELS, input_seeds(1, 2, ids, mask, LABELS))
            before = calls
            results.append(gradients(backbone, loss))
        assert calls == 2 * before  # each checkpointed block ran again in the backward pass
        assert_same_gradients(results[1], results[0])


@pytest.mark.parametrize("architecture", ["t5", "mt5"])
def test_equal_warmups_get_equal_weights_in_spite_of_dropout(make_backbone, architecture: str) -> None:
    backbone = make_backbone(architecture, dropout=0.5)
    backbone.model.train()
    ids, mask = batch_of(backbone)
    encoded = backbone.family.encode(backbone.model, ids, mask)
    hidden: Callable = lambda rows: backbone.family.hidden(backbone.model, encoded, rows, torch.ones_like(rows))  # noqa: E731
    rows = torch.tensor([[[20, 21, backbone.separator_id, 7, 1]] * 4] * 3)
    noisy = hidden(rows)
    assert (noisy - noisy[:, :1]).abs().max() > 1e-2
    with dropout_off(backbone.family.reader(backbone.model)):
        quiet = hidden(rows)
    masked = shared_dropout(backbone, LIMIT, LABELS)
    with masked.rows(5, torch.arange(3)):
        shared = hidden(rows)
    for states in (quiet, shared):
        torch.testing.assert_close(states, states[:, :1].expand_as(states))
    assert (shared - quiet).abs().max() > 1e-2  # there is dropout, the same for all
    with masked.rows(5, torch.tensor([1])):  # an input that is read later meets its own masks again
        again = backbone.family.hidden(
            backbone.model, encoded.select(torch.tensor([1])), rows[:1, :1], torch.ones_like(rows[:1, :1])
        )
    torch.testing.assert_close(again, shared[1:2, :1])
    assert backbone.model.get_decoder().training and backbone.model.get_encoder().training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_long_targets_in_bfloat16_are_numbers(make_backbone, architecture: str) -> None:
    """Every parameter learns under autocast, from targets of 500 tokens and a source that is all padding but one."""
    backbone = make_backbone(architecture)
    ids, mask = batch_of(backbone)
    labels = torch.randint(10, 250, (3, 500))
    labels[1, 3:] = IGNORED_LABEL
    method = WarmupMethod(num_samples=3, max_warmup_tokens=LIMIT)
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = warmup_loss(backbone, method, ids, mask, labels, torch.arange(3), measure=True)
    loss.backward()
    assert loss.dtype in (torch.float32, torch.float64) and loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.model.parameters())
    assert all(torch.tensor(value).isfinite() for value in found.values())


def test_the_naive_sampler_writes_what_the_engine_can_read(backbone: Backbone) -> None:
    ids, mask = batch_of(backbone)
    torch.manual_seed(1)
    warmups = naive_sample(backbone, ids, mask, 4, LIMIT)
    assert warmups.tokens.shape == (3, 4, LIMIT)
    assert torch.equal(warmups.forced, warmups.lengths == LIMIT)
    forbidden = backbone.never_in_warmup.nonzero().flatten().tolist()
    inside = torch.arange(LIMIT) < warmups.lengths[..., None]
    assert not set(warmups.tokens[inside].tolist()) & {*forbidden, backbone.separator_id}
    scores = score_warmups(backbone, backbone.family.encode(backbone.model, ids, mask), warmups, LABELS)
    assert scores.warmup_logprob.isfinite().all()
