"""Operations are those counted on paper, and few enough."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from tests.benchmark.by_hand import by_hand
from tests.benchmark.tiny_configs import CONFIGS, LLAMA
from warmup.benchmark.costs import count_operations, operations
from warmup.benchmark.models import build
from warmup.benchmark.steps import ways
from warmup.benchmark.workloads import SIZES, STANDARD, Shape, Workload

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
    found = ways(build(AutoConfig.for_model(**config), "meta"), SHAPE, [2], with_naive=False)
    assert operations(found[0].step) == by_hand(config).sft(SHAPE)
    assert operations(found[1].step) == by_hand(config).ours(SHAPE, 2)


def _operations_by_layers(work: Workload, layers: int) -> dict[str, int]:
    depth = "num_hidden_layers" if work.model.startswith("llama") else "num_layers"
    backbone = build(AutoConfig.for_model(**{**SIZES[work.model], depth: layers}), "meta")
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
    assert whole["marginal K=4"] <= most * whole["SFT"]
    if work.model == "mt5_base":
        assert whole["resample K=4"] <= 3.5 * whole["SFT"]
    else:
        assert whole["marginal K=8"] <= 1.45 * whole["marginal K=4"]
