"""A training with LoRA: what changes, what the optimiser holds, and that a killed one ends as one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tests.models.adapted import adapted, maker
from tests.training.test_resuming import SHAPE, Killed, KilledIn, timeless
from tests.training.tiny_fit import SFT, WARMUP, train
from warmup.config.schema import LoraConfig, MethodConfig
from warmup.models.loading import load_pretrained

NOISY = LoraConfig(rank=3, dropout=0.3)


class Optimised(TrainerCallback):
    """Keeps what the optimiser holds."""

    def on_train_end(self, args, state, control, optimizer=None, **_) -> None:
        self.count = sum(part.numel() for group in optimizer.param_groups for part in group["params"])
        self.moments = sum(part.numel() for entry in optimizer.state.values() for part in entry.values()) - len(
            optimizer.state
        )


@pytest.mark.parametrize(
    ("method", "architecture", "precision"),
    [(SFT, "t5", "float32"), (WARMUP, "t5", "bfloat16"), (WARMUP, "llama", "float32"), (SFT, "llama", "bfloat16")],
    ids=["sft-t5", "warmup-t5-bfloat16", "warmup-llama", "sft-llama-bfloat16"],
)
def test_only_adapters_and_new_rows_are_trained(
    tmp_path: Path, method: MethodConfig, architecture: str, precision: str
) -> None:
    base, seen = tmp_path / "base", Optimised()
    shape = {"callbacks": [seen], "precision": precision, "weight_decay": 0.1, "gradient_checkpointing": True}
    backbone, _ = train(maker(base), tmp_path / "run", method, architecture, **shape)
    trained = {name: part for name, part in backbone.model.named_parameters() if part.requires_grad}
    assert seen.count == sum(part.numel() for part in trained.values()) and seen.moments == 2 * seen.count
    begun = dict(adapted(base, architecture).model.named_parameters())
    same = [name for name, part in trained.items() if torch.equal(part, begun[name])]
    # T5's encoder reads a separator nowhere here, and SFT's decoder does not either
    assert not [name for name in same if not (architecture == "t5" and name.startswith("shared"))]
    plain = load_pretrained(str(base))
    own = {name.replace(".base_layer", "").replace(".token_adapter", ""): part for name, part in begun.items()}
    now = {
        name.replace(".base_layer", "").replace(".token_adapter", ""): part
        for name, part in backbone.model.named_parameters()
    }
    old = torch.ones(plain.never_in_warmup.shape[0], dtype=torch.bool)
    old[plain.new_rows] = False
    for name, part in plain.model.named_parameters():
        kept = old if part.shape[0] == len(old) else slice(None)
        assert torch.equal(now[name][kept], part[kept]) and torch.equal(own[name][kept], part[kept]), name


@pytest.mark.parametrize(
    ("method", "architecture"), [(SFT, "t5"), (WARMUP, "t5"), (WARMUP, "llama")], ids=["sft-t5", "t5", "llama"]
)
def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path, method: MethodConfig, architecture: str) -> None:
    make, shape = maker(tmp_path / "base", NOISY), {**SHAPE, "learning_rate": 0.01}
    scores = iter([1.0, 3.0, 2.0, 2.0])  # the best checkpoint is that of step 4
    whole, expected = train(make, tmp_path / "whole", method, architecture, score=lambda: next(scores), **shape)
    with pytest.raises(Killed):
        values = iter([1.0, 3.0, 2.0])
        killed = {**shape, "score": lambda: next(values), "callbacks": [KilledIn(7)]}
        train(make, tmp_path / "killed", method, architecture, **killed)
    checkpoint = tmp_path / "killed" / "checkpoints" / "checkpoint-6"
    assert (checkpoint / "adapter_model.safetensors").is_file() and not (checkpoint / "model.safetensors").exists()
    backbone, found = train(make, tmp_path / "killed", method, architecture, score=lambda: 2.0, **shape)
    assert found.steps == expected.steps and timeless(found.history) == timeless(expected.history)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, backbone.model.state_dict()[name]), name
    best = load_pretrained(str(tmp_path / "whole" / "checkpoints" / "checkpoint-4"))
    trained = {name for name, part in whole.model.named_parameters() if part.requires_grad}
    assert all(torch.equal(dict(best.model.named_parameters())[n], whole.model.get_parameter(n)) for n in trained)
