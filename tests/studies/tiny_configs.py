"""Tiny configurations as a user would have them in a folder, with sizes that no two parts of the model share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

T5: dict[str, Any] = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "is_encoder_decoder": True,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "vocab_size": 120,
}
MT5 = {**T5, "model_type": "mt5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 36,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 120,
    "tie_word_embeddings": False,
    # what Llama-3.2-1B's own file says of positions and tokens
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    },
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
}
CONFIGS = {"t5": T5, "mt5": MT5, "llama": LLAMA}


def written(config: dict[str, Any], folder: Path) -> Path:
    """The folder, with the configuration in it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
