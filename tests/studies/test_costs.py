"""Operations are those counted on paper, and few enough."""

from __future__ import annotations

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoConfig

from tests.studies.by_hand import by_hand
from tests.studies.tiny_configs import CONFIGS, LLAMA
from warmup.errors import UserError
from warmup.studies.benchmark.costs import count_elementwise, count_operations, elementwise, operations
from warmup.studies.benchmark.models import random_backbone
from warmup.studies.benchmark.steps import updates, ways
from warmup.studies.benchmark.workloads import SIZES, STANDARD, Shape, Workload

SHAPE = Shape(source=11, target=5, warmup=4, batch=2)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_counted_operations_are_those_of_the_matrices(architecture: str) -> None:
    counted = count_operations(AutoConfig.for_model(**CONFIGS[architecture]), SHAPE, [1, 4])
    paper = by_hand(CONFIGS[architecture])
    assert counted["SFT"] == paper.sft(SHAPE)
    for count in (1, 4):
        assert counted[f"naive K={count}"] == paper.naive(SHAPE, count)
        assert counted[f"marginal K={count}"] == paper.ours(SHAPE, count)
        assert counted[f"resample K={count}"] == paper.resample(SHAPE, count)


def test_what_stands_beside_the_products_is_counted_without_views() -> None:
    def step() -> None:
        left, right = torch.ones(3, 4, device="meta"), torch.ones(4, 5, device="meta")
        (left.view(4, 3).T @ right).add_(1).exp()

    assert elementwise(step) == (4, 12 + 20 + 15 + 15)
    counted = count_elementwise(AutoConfig.for_model(**CONFIGS["llama"]), SHAPE, [2, 4])
    for part in ("calls", "elements"):
        assert counted[part]["SFT"] < counted[part]["marginal K=2"] < counted[part]["marginal K=4"] or part == "calls"
    assert counted["calls"]["marginal K=2"] == counted["calls"]["marginal K=4"]


BART = {"d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2}
BART_NAMES = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "vocab_size": 120,
    "max_position_embeddings": 30,
}


@pytest.mark.parametrize("model_type", ["bart", "mbart"])
def test_a_bart_costs_what_a_t5_of_its_size_does(model_type: str) -> None:
    config = AutoConfig.for_model(model_type, **BART_NAMES)
    counted, paper = count_operations(config, SHAPE, [4]), by_hand({"model_type": "t5", "vocab_size": 120, **BART})
    assert counted["SFT"] == paper.sft(SHAPE)
    assert counted["naive K=4"] == paper.naive(SHAPE, 4)
    assert counted["marginal K=4"] == paper.ours(SHAPE, 4)
    with pytest.raises(UserError, match="has 30 positions, .* a sequence of 31 tokens"):
        count_operations(config, Shape(source=31, target=5, warmup=4, batch=2), [4])


@pytest.mark.parametrize(("model_type", "window"), [("mistral", 3), ("qwen2", None), ("qwen2", 3)], ids=str)
def test_other_causal_models_cost_what_a_llama_of_their_size_does(model_type: str, window: int | None) -> None:
    sizes = {name: value for name, value in LLAMA.items() if "token" not in name and "rope" not in name}
    sizes |= {"model_type": model_type, "head_dim": 8, "sliding_window": window, "use_sliding_window": bool(window)}
    counted = count_operations(AutoConfig.for_model(**sizes, max_window_layers=1), SHAPE, [4])
    paper = by_hand({**LLAMA, "head_dim": 8})
    assert (counted["SFT"], counted["marginal K=4"]) == (paper.sft(SHAPE), paper.ours(SHAPE, 4))


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 8, "rope_scaling": None},
        {"head_dim": None, "hidden_size": 48},  # 12 by heads
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"num_key_value_heads": 4, "tie_word_embeddings": True},
    ],
    ids=str,
)
def test_any_llama_is_counted(changes: dict) -> None:
    config = {name: value for name, value in {**LLAMA, **changes}.items() if value is not None}
    found = ways(random_backbone(AutoConfig.for_model(**config), "meta"), SHAPE, [2], with_naive=False)
    assert operations(found[0].step) == by_hand(config).sft(SHAPE)
    assert operations(found[1].step) == by_hand(config).ours(SHAPE, 2)


def test_a_step_as_trained_has_dropout_clipping_and_adamw() -> None:
    """And changes no weight, so that each way finds what the others found."""
    norms: list[float] = []
    plain = random_backbone(AutoConfig.for_model(**CONFIGS["t5"]), "cpu")
    backbone = random_backbone(AutoConfig.for_model(**CONFIGS["t5"]), "cpu", dropout=True)
    assert (plain.model.config.dropout_rate, backbone.model.config.dropout_rate) == (0, 0.1)
    before = [part.clone() for part in backbone.model.parameters()]

    def stepped(optimizer: torch.optim.AdamW, _: tuple, __: dict) -> None:
        gradients = [part.grad for group in optimizer.param_groups for part in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        assert all(len(optimizer.state[part]) for group in optimizer.param_groups for part in group["params"])

    hook = register_optimizer_step_post_hook(stepped)
    for way in ways(backbone, SHAPE, [2], with_naive=True, update=updates(backbone.model)):
        way.step()
    hook.remove()
    assert norms == [0, *[pytest.approx(1.0, rel=1e-4)] * 4]  # the loss is a sum, and its gradient long
    assert all(map(torch.equal, before, backbone.model.parameters()))


def _operations_by_layers(work: Workload, layers: int) -> dict[str, int]:
    depth = "num_hidden_layers" if work.model.startswith("llama") else "num_layers"
    backbone = random_backbone(AutoConfig.for_model(**{**SIZES[work.model], depth: layers}), "meta")
    found = ways(backbone, work.shape, work.samples, with_naive=False)
    asked = [way for way in found if way.name != "resample" or work.model == "mt5_base"]
    return {way.label: operations(way.step) for way in asked}


@pytest.mark.parametrize(
    ("work", "most"), list(zip(STANDARD[:4], [1.55, 1.65, 1.60, 5.00], strict=True)), ids=[w.name for w in STANDARD[:4]]
)
def test_a_step_of_ours_costs_no_more_than_it_may(work: Workload, most: float) -> None:
    config = SIZES[work.model]
    depth = config.get("num_layers") or config["num_hidden_layers"]
    one, two = (_operations_by_layers(work, layers) for layers in (1, 2))
    whole = {name: one[name] + (depth - 1) * (two[name] - one[name]) for name in one}  # layers are all alike
    paper = by_hand({"num_decoder_layers": depth, **config})
    assert whole["SFT"] == paper.sft(work.shape)
    assert whole["marginal K=4"] == paper.ours(work.shape, 4)
    assert whole["marginal K=8"] == paper.ours(work.shape, 8)
    assert whole["marginal K=4"] <= most * whole["SFT"]
    if work.model == "mt5_base":
        assert whole["resample K=4"] <= 3.5 * whole["SFT"]
        assert whole["marginal K=8"] <= 9.7 * whole["SFT"]
    else:
        assert whole["marginal K=8"] <= 1.45 * whole["marginal K=4"]
