"""Two processes over gloo have the loss and the gradients of one that sees the whole batch."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tests.conftest import TEXTS, tiny_backbone
from tests.models.adapted import adapted
from tests.training.tiny_fit import SFT, train
from warmup.config.schema import ModelConfig, WarmupMethod
from warmup.errors import UserError
from warmup.models.encoding import Collator
from warmup.models.loading import build_fresh
from warmup.training.method_model import MethodModel
from warmup.training.processes import leave_process_group

ROWS = [
    {"source": [265, 270, 268, 271, 1], "target": [7, 8, 9, 1]},
    {"source": [266, 280, 1], "target": [11, 1]},
    {"source": [267, 281, 290, 1], "target": [12, 13, 1]},
    {"source": [265, 281, 1], "target": [14, 15, 16, 17, 1]},
]
PATIENCE = timedelta(seconds=120)
TOKENS = sum(len(row["target"]) for row in ROWS)


def method_model(architecture: str) -> MethodModel:
    torch.manual_seed(0)
    config = ModelConfig(
        name="tiny", architecture=architecture, vocabulary_size=300, width=32, layers=2, heads=2, feed_forward=48
    )
    config.dropout = 0.0
    backbone = build_fresh(config, TEXTS, 64)
    backbone.model.double().train()
    return MethodModel(backbone, WarmupMethod(num_samples=3, max_warmup_tokens=3, entropy_coef=0.1), seed=5)


def loss_and_gradients(model: torch.nn.Module, inner: MethodModel, rows: list[dict]) -> tuple[float, dict]:
    loss = model(**Collator(inner.backbone)(rows), num_items_in_batch=TOKENS)["loss"]
    loss.backward()
    found = {}
    for name, parameter in inner.named_parameters():
        gradient = parameter.grad
        found[name] = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return loss.item(), found


def join_process_group(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=PATIENCE)


def one_of_two(rank: int, folder: str, kind: str, architecture: str) -> None:
    join_process_group(rank, folder)
    inner = method_model(architecture)
    model: torch.nn.Module = inner
    if kind == "ddp":
        model = DistributedDataParallel(inner)
    else:
        mesh = init_device_mesh("cpu", (2,))
        split = set(inner.model._no_split_modules)
        for part in list(inner.model.modules()):
            if type(part).__name__ in split:
                fully_shard(part, mesh=mesh)
        fully_shard(inner, mesh=mesh)
    loss, gradients = loss_and_gradients(model, inner, ROWS[2 * rank : 2 * rank + 2])
    total = torch.tensor(loss)
    dist.all_reduce(total)
    if rank == 0:
        torch.save({"loss": total, "gradients": gradients}, Path(folder) / "found.pt")
    del model, inner, gradients
    leave_process_group()


WARMUPS = WarmupMethod(num_samples=2, max_warmup_tokens=2, sft_steps=1, entropy_coef=0.1)
# 17 examples, 8 a step: the third step of an epoch has one, so that a process gets none
SHARED: dict[str, Any] = {"count": 17, "max_steps": 5, "evaluate_every": 2, "schedule": "constant", "logging_steps": 3}
METHODS = {"sft": SFT, "warmup": WARMUPS}


def fit_killed_and_whole(rank: int, folder: str) -> None:
    """Both methods, each once as a whole, and once gone on with from the second step's checkpoint."""
    for name, method in METHODS.items():
        whole, killed = Path(folder, name), Path(folder, f"{name}_killed")
        train(tiny_backbone, whole, method, **SHARED, batch_size=4, keep_checkpoints=9)
        if rank == 0:
            shutil.copytree(whole / "checkpoints" / "checkpoint-2", killed / "checkpoints" / "checkpoint-2")
        dist.barrier()
        train(tiny_backbone, killed, method, **SHARED, batch_size=4)


def fit_in_two(rank: int, folder: str) -> None:
    """Both methods; then SFT once more with accumulation."""
    join_process_group(rank, folder)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", MASTER_ADDR="unused")
    os.environ.update(MASTER_PORT="0", ACCELERATE_USE_CPU="true")
    fit_killed_and_whole(rank, folder)
    train(tiny_backbone, Path(folder, "parts"), SFT, **SHARED, batch_size=2, gradient_accumulation_steps=2)
    leave_process_group()


def fit_sharded(rank: int, folder: str) -> None:
    """With FSDP. accelerate has it on GPUs alone, and is told here that it has it."""
    join_process_group(rank, folder)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", MASTER_ADDR="unused")
    os.environ.update(MASTER_PORT="0", ACCELERATE_USE_CPU="true", ACCELERATE_USE_FSDP="true")
    # accelerate makes parameters for these on a device that is no CPU
    os.environ.update(FSDP_CPU_RAM_EFFICIENT_LOADING="false", FSDP_SYNC_MODULE_STATES="false")
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    initialise = AcceleratorState.__init__

    def with_fsdp(self: AcceleratorState, *arguments: Any, **keywords: Any) -> None:
        initialise(self, *arguments, **keywords)
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin

    AcceleratorState.__init__ = with_fsdp
    fit_killed_and_whole(rank, folder)
    for name in METHODS:
        assert list(
            (Path(folder, name) / "checkpoints" / "checkpoint-5").glob("optimizer_*/*")
        )  # in parts: it was FSDP
    base = Path(folder, f"base-{rank}")
    with pytest.raises(UserError, match="model.lora.rank is set, and FSDP shards the model"):
        train(lambda architecture, _: adapted(base, architecture), Path(folder, "adapted"), SFT, **SHARED)
    leave_process_group()


def weights_at(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")


def history_of(run: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "train_runtime")
    history = json.loads((run / "history.json").read_text())
    return [{name: value for name, value in entry.items() if name not in timed} for entry in history]


@pytest.mark.parametrize("fit", [fit_in_two, fit_sharded], ids=["ddp", "fsdp"])
def test_two_processes_train_the_model_of_one(tmp_path: Path, fit: Callable[..., None]) -> None:
    """The same steps on the same examples, and a resumed training is the same to the bit."""
    two_processes(fit, str(tmp_path))
    for name, method in METHODS.items():
        run = tmp_path / name
        train(tiny_backbone, tmp_path / "one" / name, method, **SHARED, batch_size=8)
        others = [run, tmp_path / "parts"] if name == "sft" and fit is fit_in_two else [run]
        for other in others:
            for step in (4, 5):
                found = weights_at(other, step)
                for key, value in weights_at(tmp_path / "one" / name, step).items():
                    # a step is of 1e-3, whose sign AdamW takes from rounding here and there
                    assert (found[key] - value).abs().mean() < 1e-6, (other.name, step, key)
        expected, found = history_of(tmp_path / "one" / name), history_of(run)
        assert [entry["step"] for entry in found] == [entry["step"] for entry in expected]
        for ours, theirs in zip(found, expected, strict=True):
            for key in ours.keys() & {"loss", "train_loss", "grad_norm", "epoch", "learning_rate"}:
                assert ours[key] == pytest.approx(theirs[key], rel=2e-4), key
        killed = tmp_path / f"{name}_killed"
        assert history_of(killed) == found
        for key, value in weights_at(run, 5).items():
            assert torch.equal(weights_at(killed, 5)[key], value), key


def gloo_threads() -> int:
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


def leave_with_a_wrapper_that_is_garbage(rank: int, folder: str) -> None:
    join_process_group(rank, folder)
    gc.disable()  # or it may collect the wrapper before leave_process_group does
    wrapper = DistributedDataParallel(torch.nn.Linear(2, 2))
    wrapper(torch.ones(1, 2)).sum().backward()
    wrapper.itself = [wrapper]
    del wrapper
    assert gloo_threads()
    leave_process_group()
    assert not gloo_threads()  # what is left of them at the interpreter's end aborts it, or makes it hang
    leave_process_group()


def two_processes(function: Callable[..., None], *arguments: str) -> None:
    """Run `function(rank, *arguments)` twice; ones that hang are stopped, and fail the test."""
    both = mp.spawn(function, arguments, nprocs=2, join=False)
    end = time.monotonic() + 2 * PATIENCE.total_seconds()
    while not both.join(timeout=1):
        if time.monotonic() > end:
            for process in both.processes:
                process.kill()
            pytest.fail(f"{function.__name__} hangs")


@pytest.mark.parametrize("architecture", ["t5", "llama"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_equal_one(tmp_path: Path, kind: str, architecture: str) -> None:
    two_processes(one_of_two, str(tmp_path), kind, architecture)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    inner = method_model(architecture)
    loss, expected = loss_and_gradients(inner, inner, ROWS)
    assert found["loss"].item() == pytest.approx(loss, rel=1e-6)
    largest = max(part.abs().max().item() for part in expected.values())
    for name, part in expected.items():
        # both average over the processes
        torch.testing.assert_close(2 * found["gradients"][name], part, rtol=0, atol=1e-5 * largest)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed in /proc")
def test_nothing_of_gloo_is_left_when_a_process_leaves(tmp_path: Path) -> None:
    two_processes(leave_with_a_wrapper_that_is_garbage, str(tmp_path))


@pytest.mark.parametrize(("architecture", "block"), [("t5", "T5Block"), ("llama", "LlamaDecoderLayer")])
@pytest.mark.parametrize("version", [1, 2])
def test_accelerate_finds_the_blocks_that_fsdp_shards(version: int, architecture: str, block: str) -> None:
    inner = method_model(architecture)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=version, auto_wrap_policy="transformer_based_wrap")
    if version == 1:
        plugin.set_auto_wrap_policy(inner)
        sharded = [part for part in inner.modules() if plugin.auto_wrap_policy(part, recurse=False, nonwrapped_numel=0)]
    else:
        policy = fsdp2_prepare_auto_wrap_policy(plugin, inner)
        sharded = [part for part in inner.modules() if policy(part)]
    assert [type(part).__name__ for part in sharded] == [block] * (4 if architecture == "t5" else 2)
