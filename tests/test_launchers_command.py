"""The command under torchrun and accelerate: one process's numbers, and one line where it fails or is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_train_command import ROOT, TINY, command, torch_weights

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2")
ACCELERATE += ("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0")
LAUNCHED = [*TINY, "device=cpu", "method=sft"]
FAILING = """
import os, runpy, sys
import warmup.run  # as the program does: the Trainer alone would import PEFT, and that what is installed beside it
from warmup.training.trainer import WarmupTrainer
def fail(self, *arguments, **keywords):
    raise RuntimeError("it broke")
if os.environ["RANK"] == os.environ["FAILS"]:
    WarmupTrainer.training_step = fail
sys.argv[0] = "scripts/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_mistake_is_said_once(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    result = command(*LAUNCHED, "trainer.batch_size=0", f"hydra.run.dir={tmp_path}/run", program=launcher)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: trainer.batch_size is 0; allowed: "), result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_failing_process_ends_the_others_in_one_line(tmp_path: Path, rank: str) -> None:
    program = tmp_path / "failing.py"
    program.write_text(FAILING)
    words = [*TORCHRUN, str(program), *LAUNCHED, f"hydra.run.dir={tmp_path}/run"]
    result = run_program(words, FAILS=rank)
    assert result[0] != 0
    assert [line for line in result[1].splitlines() if line.strip() and "%|" not in line] == [
        "error: RuntimeError: it broke (HYDRA_FULL_ERROR=1 shows where)"
    ]
    assert "it broke" in (tmp_path / "run" / "error.txt").read_text()


def run_program(words: list[str], **environment: str) -> tuple[int, str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment}
    result = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    return result.returncode, result.stderr


def results(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {"scores": metrics["scores"], "steps": metrics["training_steps"], "skipped": metrics["skipped_steps"]}


def test_launchers_have_the_metrics_of_one_process_and_checkpoints_move(tmp_path: Path) -> None:
    one = command(*LAUNCHED, "trainer.batch_size=8", f"hydra.run.dir={tmp_path}/one")
    assert one.returncode == 0, one.stderr[-3000:]
    two = command(*LAUNCHED, "trainer.batch_size=4", f"hydra.run.dir={tmp_path}/accelerate", program=ACCELERATE)
    assert two.returncode == 0, two.stderr[-3000:]
    assert results(tmp_path / "accelerate") == results(tmp_path / "one")
    for key, value in torch_weights(tmp_path / "one" / "model").items():
        torch.testing.assert_close(torch_weights(tmp_path / "accelerate" / "model")[key], value, rtol=1e-4, atol=1e-5)
    for source, target, batch, program in (
        ("accelerate", "to_one", 8, (sys.executable,)),
        ("one", "to_two", 4, TORCHRUN),
    ):
        run = tmp_path / target
        shutil.copytree(tmp_path / source, run)
        for left in ("metrics.json", "predictions.jsonl", "history.json", "training.json", "model"):
            shutil.rmtree(run / left) if (run / left).is_dir() else (run / left).unlink()
        shutil.rmtree(run / "checkpoints" / "checkpoint-4")
        other = command(*LAUNCHED, f"trainer.batch_size={batch // 2}", f"hydra.run.dir={run}", program=program)
        assert other.returncode != 0 and "examples a step" in other.stderr
        moved = command(*LAUNCHED, f"trainer.batch_size={batch}", f"hydra.run.dir={run}", program=program)
        assert moved.returncode == 0 and "resuming from" in moved.stdout, moved.stderr[-3000:]
        assert results(run) == results(tmp_path / "one")


def test_a_signal_to_the_launcher_saves_and_is_one_line(tmp_path: Path) -> None:
    words = [*LAUNCHED, "trainer.max_steps=100000", "trainer.evaluate_every=100000", f"hydra.run.dir={tmp_path}/run"]
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen([*TORCHRUN, "scripts/train.py", *words], cwd=ROOT, stdout=stdout, stderr=stderr)
        try:
            while "step 3/" not in out.read_text():
                assert process.poll() is None, err.read_text()
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) != 0
        finally:
            process.kill()
    assert "Traceback" not in err.read_text()
    assert err.read_text().splitlines()[-1].startswith("ended by SIGTERM, saved at step ")
    assert len(list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))) == 1
