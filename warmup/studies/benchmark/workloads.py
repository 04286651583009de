"""What is measured: model sizes, shapes of a batch, and the standard set. Plain data, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

T5_PARTS: dict[str, Any] = {"model_type": "t5", "d_kv": 64, "vocab_size": 32128, "feed_forward_proj": "relu"}
MT5_PARTS: dict[str, Any] = {
    "model_type": "mt5",
    "d_kv": 64,
    "vocab_size": 250112,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
# as in the config.json of each
SIZES: dict[str, dict[str, Any]] = {
    "t5_small": {**T5_PARTS, "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5_base": {**T5_PARTS, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "t5_large": {**T5_PARTS, "d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
    "mt5_small": {**MT5_PARTS, "d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "mt5_base": {**MT5_PARTS, "d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "mt5_large": {**MT5_PARTS, "d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "llama_3_2_1b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Shape:
    """Tokens of a batch; every source, target and warmup has the full length."""

    source: int
    target: int
    warmup: int
    batch: int


@dataclass(frozen=True)
class Workload:
    """A model and a batch whose steps are counted, timed or both."""

    name: str
    model: str  # a key of SIZES, a folder with a config.json, or a hub name
    shape: Shape
    samples: list[int]  # each K
    counted: bool = False
    timed: bool = False
    precision: str = "float32"
    as_trained: bool = False  # timed with the model's own dropout, gradient clipping and AdamW


STANDARD = [
    Workload("T5-base, XSum", "t5_base", Shape(512, 32, 16, 2), [4, 8], counted=True),
    Workload("T5-base, LogiQA", "t5_base", Shape(256, 4, 16, 2), [4, 8], counted=True),
    Workload("Llama-3.2-1B, LogiQA", "llama_3_2_1b", Shape(256, 4, 16, 2), [4, 8], counted=True),
    Workload("mT5-base, translation", "mt5_base", Shape(40, 40, 16, 2), [4, 8], counted=True),
    Workload("T5-small, XSum", "t5_small", Shape(512, 32, 16, 4), [4], timed=True),
    Workload("the same, as trained", "t5_small", Shape(512, 32, 16, 4), [4], timed=True, as_trained=True),
    Workload("mT5-small, translation", "mt5_small", Shape(40, 40, 16, 8), [4], timed=True),
]
ON_GPU = [
    Workload(f"{name}, bf16", model, shape, samples, timed=True, precision="bfloat16")
    for name, model, shape, samples in [
        ("T5-base, XSum", "t5_base", Shape(512, 32, 16, 32), [4, 8]),
        ("T5-base, LogiQA", "t5_base", Shape(256, 4, 16, 32), [4, 8]),
        ("Llama-3.2-1B, LogiQA", "llama_3_2_1b", Shape(256, 4, 16, 32), [4, 8]),
        ("mT5-base, translation", "mt5_base", Shape(40, 40, 16, 32), [4]),
    ]
]
