"""scripts/benchmark.py as a user types it: a table, a JSON file, and one line about a mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.studies.by_hand import by_hand
from tests.studies.tiny_configs import CONFIGS, written
from warmup.studies.benchmark.workloads import Shape

ROOT = Path(__file__).parents[1]
SHAPE = Shape(source=64, target=5, warmup=4, batch=2)
WORDS = [word for name, value in vars(SHAPE).items() for word in (f"--{name}", str(value))]
WAYS = {"SFT", *(f"{name} K={count}" for name in ("naive", "marginal", "resample") for count in (4, 8))}


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/benchmark.py from the repository's root, offline, on one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    env.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [sys.executable, "scripts/benchmark.py", *words],
        cwd=ROOT,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The single line on standard error of a command that must have failed."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and not result.stdout, result.stderr
    return lines[0]


@pytest.mark.parametrize(("architecture", "precision"), [("t5", "float32"), ("mt5", "bfloat16"), ("llama", "bfloat16")])
def test_any_configuration_is_counted_and_timed(architecture: str, precision: str, tmp_path: Path) -> None:
    folder, file = written(CONFIGS[architecture], tmp_path / "my_model"), tmp_path / "new" / "figures.json"
    result = command(
        "--model", str(folder), *WORDS, "--samples", "4", "8", "--precision", precision, "--repeats", "1",
        "--device", "cpu", "--json", str(file),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert all(text in result.stdout for text in ("my_model", "64/5/4, 2", str(file), *WAYS))
    report = json.loads(file.read_text())
    assert report["machine"]["device"] == "cpu" and report["machine"]["threads"] == 1
    assert report["machine"]["packages"]["torch"] == torch.__version__
    (found,) = report["results"]
    assert Shape(**found["shape"]) == SHAPE and found["samples"] == [4, 8]
    assert (found["model"], found["precision"]) == (str(folder), precision)
    counted = found["operations"]
    assert counted["SFT"] == by_hand(CONFIGS[architecture]).sft(SHAPE)
    assert counted["marginal K=4"] < counted["naive K=4"]
    assert counted["marginal K=4"] < counted["marginal K=8"] < 2 * counted["marginal K=4"]
    assert found["as_trained"] is False and "without dropout and optimiser" in result.stdout
    for name in ("operations", "seconds", "cpu_seconds", "tokens_per_second", "peak_bytes"):
        assert set(found[name]) == WAYS
    for way in WAYS:
        assert found["seconds"][way] * found["tokens_per_second"][way] == pytest.approx(2 * (64 + 5))


def test_counting_alone_makes_no_weights(tmp_path: Path) -> None:
    enormous = {**CONFIGS["llama"], "hidden_size": 2**17, "intermediate_size": 2**20}  # 4 TB
    folder, file = written(enormous, tmp_path / "enormous"), tmp_path / "figures.json"
    result = command("--model", str(folder), *WORDS, "--samples", "1", "--count", "--json", str(file))
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(file.read_text())["results"]
    assert set(found["operations"]) == {"SFT", "naive K=1", "marginal K=1", "resample K=1"}
    assert "seconds" not in found


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--model", "t5_small", "--batch", "0"], "argument --batch: '0' is no whole number above 0"),
        (["--model", "t5_small", "--samples", "4", "-1"], "argument --samples: '-1' is no whole number above 0"),
        (["--model", "t5_small", "--target", "1.5"], "argument --target"),
        (["--model", "t5_small", "--device", "tpu"], "choose from"),
        (["--modle", "t5_small"], "--modle"),
        (["--source", "256"], "--source goes with --model"),
        (["--as-trained"], "--as-trained goes with --model"),
        (["--model", "t5_small", "--as-trained", "--count"], "not with --count"),
        (["--model", "tests/no_such_folder/at_all"], "there is no folder tests/no_such_folder/at_all"),
        (["--model", "t5_small", "--json", "/proc/nowhere/figures.json"], "cannot write /proc/nowhere/figures.json"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], part: str) -> None:
    assert part in error_line(command(*words))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line() -> None:
    assert "no usable CUDA device" in error_line(command("--model", "t5_small", "--device", "cuda"))


def test_the_traceback_is_there_for_who_asks() -> None:
    result = command("--batch", "0", HYDRA_FULL_ERROR="1")
    assert result.returncode != 0 and "Traceback" in result.stderr
