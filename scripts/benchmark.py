"""What a training step costs next to plain fine-tuning: counted operations, seconds, tokens per second, peak memory.

    python scripts/benchmark.py                                       # the standard set (make bench)
    python scripts/benchmark.py --model t5_base --source 512 --target 32 --samples 4 8 --count
    python scripts/benchmark.py --model llama_3_2_1b --source 256 --target 4 --batch 32 --precision bfloat16

Every number is a ratio to SFT in the same run: operations of matrix products on meta tensors (no weights needed),
wall-clock as the median of runs that take turns, memory as the peak of a step above the weights.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, MT5Config, T5Config

from warmup.config.schema import WarmupMethod
from warmup.files import write_json
from warmup.methods.naive import naive_loss, naive_sample, naive_scores
from warmup.methods.noise import Noise
from warmup.methods.scoring import read_targets, weigh_read
from warmup.methods.warmup import warmup_step
from warmup.models.decoder_only import DecoderOnly
from warmup.models.encoder_decoder import EncoderDecoder
from warmup.models.loading import Backbone
from warmup.models.modes import evaluation_mode

T5: dict[str, Any] = {"d_kv": 64, "vocab_size": 32128, "feed_forward_proj": "relu"}
MT5: dict[str, Any] = {
    "d_kv": 64,
    "vocab_size": 250112,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
SIZES: dict[str, Callable[[], Any]] = {
    "t5_small": lambda: T5Config(d_model=512, d_ff=2048, num_layers=6, num_heads=8, **T5),
    "t5_base": lambda: T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12, **T5),
    "t5_large": lambda: T5Config(d_model=1024, d_ff=4096, num_layers=24, num_heads=16, **T5),
    "mt5_small": lambda: MT5Config(d_model=512, d_ff=1024, num_layers=8, num_heads=6, **MT5),
    "mt5_base": lambda: MT5Config(d_model=768, d_ff=2048, num_layers=12, num_heads=12, **MT5),
    "mt5_large": lambda: MT5Config(d_model=1024, d_ff=2816, num_layers=24, num_heads=16, **MT5),
    "llama_3_2_1b": lambda: LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
    ),
}
PAD, END, SEPARATOR = 0, 1, 2


@dataclass(frozen=True)
class Shape:
    """Tokens of a batch; every source, target and warmup has the full length."""

    source: int
    target: int
    warmup: int
    batch: int


@dataclass(frozen=True)
class Way:
    """One way to make a training step."""

    name: str
    samples: int  # K; 0 for SFT
    step: Callable[[], None]


def build(model: str, device: str, precision: torch.dtype) -> Backbone:
    """A model of a named size, or of the configuration in a folder or on the hub, with random weights."""
    config = SIZES[model]() if model in SIZES else AutoConfig.from_pretrained(model)
    config.pad_token_id, config.eos_token_id = PAD, END
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if config.is_encoder_decoder:
        config.decoder_start_token_id, config.dropout_rate = PAD, 0.0
    with torch.device(device):
        # on meta tensors nobody can look whether a mask is all ones, as other kinds of attention would
        kind = {"attn_implementation": "eager"} if device == "meta" else {}
        network = auto.from_config(config, dtype=precision, **kind).train()
    if device == "meta" and not config.is_encoder_decoder:
        network.model.rotary_emb.forward = _no_angles  # autocast, which Llama calls there, knows no meta device
    network.generation_config.pad_token_id = PAD
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=END)
    family = EncoderDecoder() if config.is_encoder_decoder else DecoderOnly()
    backbone = Backbone(network, tokenizer, family, SEPARATOR)  # type: ignore[arg-type]
    # no warmup ends early, so that each way writes and reads as many tokens
    never = torch.zeros(network.get_output_embeddings().weight.shape[0], dtype=torch.bool)
    never[: SEPARATOR + 1] = True
    backbone.__dict__["never_in_warmup"] = never
    return backbone


def _no_angles(states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Stands for the rotary embedding's cosines and sines where only shapes matter; SIZES' heads are all of size 64."""
    angles = states.new_empty(*position_ids.shape, 64)
    return angles, angles


def ways(backbone: Backbone, shape: Shape, samples: list[int], with_naive: bool, mixed: bool) -> list[Way]:
    """SFT, ours with each K, `resample`, and the naive computation."""
    device = next(backbone.model.parameters()).device
    words = backbone.family.output_weight(backbone.model).shape[0]
    ids = torch.randint(SEPARATOR + 1, words, (shape.batch, shape.source), device=device)
    labels = torch.randint(SEPARATOR + 1, words, (shape.batch, shape.target))
    labels = labels if device.type == "meta" else labels.to(device)
    mask = torch.ones(shape.batch, shape.source, dtype=torch.long, device=device)
    numbers = iter(range(1, 1_000_000))

    def run(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            context = torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()
            with context:
                value = loss()
            value.backward()
            backbone.model.zero_grad(set_to_none=True)

        return step

    def sft() -> Tensor:
        encoded = backbone.family.encode(backbone.model, ids, mask, shared=False)
        read = read_targets(backbone, encoded, labels)
        return weigh_read(backbone, read, lambda totals, _: -totals.target_logprob.sum(-1))[0]

    def ours(method: WarmupMethod) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            encoded = backbone.family.encode(backbone.model, ids, mask)
            seeds = torch.arange(shape.batch, device=device) + 1_000 * next(numbers)
            return warmup_step(backbone, method, encoded, labels, Noise(seeds)).loss

        return loss

    def naive(count: int) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            with evaluation_mode(backbone.model.modules()):
                warmups = naive_sample(backbone, ids, mask, count, shape.warmup)
            scores = naive_scores(backbone, ids, mask, warmups, labels)
            return naive_loss(scores, warmups, "marginal", "mean", 1.0, 0.001)

        return loss

    found = [Way("SFT", 0, run(sft))]
    for count in samples:
        if with_naive:
            found.append(Way("naive", count, run(naive(count))))
        for objective in ("marginal", "resample"):
            method = WarmupMethod(num_samples=count, max_warmup_tokens=shape.warmup, objective=objective)
            found.append(Way(objective, count, run(ours(method))))
    return found


def count_operations(model: str, shape: Shape, samples: list[int]) -> dict[str, float]:
    """Matrix-product operations of a step by each way, on meta tensors."""
    backbone = build(model, "meta", torch.float32)
    counted = {}
    for way in ways(backbone, shape, samples, with_naive=False, mixed=False):
        with FlopCounterMode(display=False) as counter:
            way.step()
        counted[label(way)] = float(counter.get_total_flops())
    counted.update(_naive_operations(backbone, shape, samples))
    return counted


def _naive_operations(backbone: Backbone, shape: Shape, samples: list[int]) -> dict[str, float]:
    """The naive step's operations: `generate` reads values, so its parts are counted one by one."""
    model, family = backbone.model, backbone.family
    found = {}
    for count in samples:
        rows = shape.batch * count
        ids = torch.zeros(rows, shape.source, dtype=torch.long, device="meta")
        mask = torch.ones_like(ids)
        with FlopCounterMode(display=False) as counter:
            with torch.no_grad(), evaluation_mode(model.modules()):
                logits, state = family.prefill(model, family.encode(model, ids, mask), 1, shape.warmup)
                for _ in range(shape.warmup - 1):
                    logits = family.step(model, state, logits.argmax(-1))
            length = shape.warmup + 1 + shape.target
            written = torch.zeros(rows, 1, length, dtype=torch.long, device="meta")
            encoded = family.encode(model, ids, mask, shared=False)
            states = family.hidden(model, encoded, written, torch.ones_like(written))
            model.get_output_embeddings()(states).log_softmax(-1).sum().backward()
        found[f"naive K={count}"] = float(counter.get_total_flops())
    return found


def measure(model: str, shape: Shape, samples: list[int], device: str, precision: str, repeats: int) -> dict[str, Any]:
    """Seconds, tokens per second and peak memory of a step by each way, on this machine."""
    mixed = precision == "bfloat16"
    backbone = build(model, device, torch.float32)
    found = ways(backbone, shape, samples, with_naive=True, mixed=mixed)
    seconds: dict[str, list[float]] = {label(way): [] for way in found}
    peaks = {label(way): _peak(way.step, device) for way in found}  # the first, untimed run
    for _ in tqdm(range(repeats), desc=f"{model} on {device}", unit="round", leave=False):
        for way in found:
            started = time.perf_counter()
            way.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[label(way)].append(time.perf_counter() - started)
    tokens = shape.batch * (shape.source + shape.target)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "tokens_per_second": {name: tokens / value for name, value in medians.items()},
        "peak_bytes": peaks,
    }


def _peak(step: Callable[[], None], device: str) -> int | None:
    """Bytes in use at the peak of a step beyond those before it; None where the machine does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or what earlier steps freed would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # Linux: begin the high-water mark anew
        before = _status("VmRSS")
        step()
        return _status("VmHWM") - before
    except (OSError, AttributeError):  # not Linux, or not glibc
        step()
        return None


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def label(way: Way) -> str:
    """`SFT`, or the name and K."""
    return f"{way.name} K={way.samples}" if way.samples else way.name


STANDARD = [
    ("T5-base, XSum", "t5_base", Shape(512, 32, 16, 2), [4, 8], "count"),
    ("T5-base, LogiQA", "t5_base", Shape(256, 4, 16, 2), [4, 8], "count"),
    ("Llama-3.2-1B, LogiQA", "llama_3_2_1b", Shape(256, 4, 16, 2), [4, 8], "count"),
    ("mT5-base, translation", "mt5_base", Shape(40, 40, 16, 2), [4], "count"),
    ("T5-small, XSum", "t5_small", Shape(512, 32, 16, 4), [4], "measure"),
    ("mT5-small, translation", "mt5_small", Shape(40, 40, 16, 8), [4], "measure"),
]
ON_GPU = [
    ("T5-base, XSum, bf16", "t5_base", Shape(512, 32, 16, 32), [4, 8], "measure"),
    ("T5-base, LogiQA, bf16", "t5_base", Shape(256, 4, 16, 32), [4, 8], "measure"),
    ("Llama-3.2-1B, LogiQA, bf16", "llama_3_2_1b", Shape(256, 4, 16, 32), [4, 8], "measure"),
    ("mT5-base, translation, bf16", "mt5_base", Shape(40, 40, 16, 32), [4], "measure"),
]


def print_table(results: list[dict[str, Any]], console: Console) -> None:
    """Ratios to SFT, a row per way."""
    table = Table(title="Cost of a training step, SFT = 1.00")
    for name in ("workload", "source/target/warmup, batch", "way"):
        table.add_column(name)
    for name in ("operations", "wall-clock", "s/step", "tokens/s", "peak memory", "MB"):
        table.add_column(name, justify="right")
    for result in results:
        shape = Shape(**result["shape"])
        names = list(result.get("operations", result.get("seconds", {})))
        for number, name in enumerate(sorted(names, key=_order)):
            head = (result["workload"], f"{shape.source}/{shape.target}/{shape.warmup}, {shape.batch}")
            cells = [_ratio(result.get("operations"), name), _ratio(result.get("seconds"), name)]
            cells += [_plain(result.get("seconds"), name, "{:.3f}", 1)]
            cells += [_plain(result.get("tokens_per_second"), name, "{:,.0f}", 1)]
            cells += [
                _ratio(result.get("peak_bytes"), name),
                _plain(result.get("peak_bytes"), name, "{:,.0f}", 2**20),
            ]
            table.add_row(*(head if not number else ("", "")), name, *cells)
        table.add_section()
    console.print(table)


def _order(name: str) -> tuple[int, str]:
    return (0 if name == "SFT" else int(name.rpartition("=")[2]), name)


def _ratio(values: dict[str, float | None] | None, name: str) -> str:
    if not values or not values.get(name) or not values.get("SFT"):
        return "—"
    return f"{values[name] / values['SFT']:.2f}"  # type: ignore[operator]


def _plain(values: dict[str, float | None] | None, name: str, form: str, unit: float) -> str:
    value = (values or {}).get(name)
    return "—" if value is None else form.format(value / unit)


def main() -> None:
    """Run the workloads that were asked for; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help=f"{', '.join(SIZES)}, a folder with a config.json, or a hub name")
    parser.add_argument("--source", type=int, default=512, help="tokens of a source")
    parser.add_argument("--target", type=int, default=32, help="tokens of a target")
    parser.add_argument("--warmup", type=int, default=16, help="tokens of a warmup")
    parser.add_argument("--samples", type=int, nargs="+", default=[4], help="K, one or more")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--count", action="store_true", help="count operations only; no weights are made")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; each way takes a turn in each")
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmark.json"), help="where the figures go")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.model:
        shape = Shape(options.source, options.target, options.warmup, options.batch)
        jobs = [(options.model, options.model, shape, options.samples, "count" if options.count else "measure")]
    else:
        jobs = STANDARD + (ON_GPU if options.device == "cuda" else [])
    results = []
    for workload, model, shape, samples, how in jobs:
        device, precision = options.device, "bfloat16" if workload.endswith("bf16") else options.precision
        result: dict[str, Any] = {"workload": workload, "model": model, "shape": vars(shape)}
        if how == "count" or options.model:
            result["operations"] = count_operations(model, shape, samples)
        if how == "measure":
            result |= {"device": device, "precision": precision, "threads": torch.get_num_threads()}
            result |= measure(model, shape, samples, device, precision, options.repeats)
        results.append(result)
        gc.collect()
    print_table(results, Console(width=120))
    write_json(options.json, results)
    print(f"written: {options.json}")


if __name__ == "__main__":
    main()
