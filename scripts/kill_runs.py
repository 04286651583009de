"""Kill runs with -9 at random moments, give the same command again, and compare the end with that of a run left alone.

    python scripts/kill_runs.py --kills 20

Each run is a process of its own, forked from this one, which has imported everything once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warmup.run  # noqa: F401 - imported once, before the first fork

SCRIPT = Path(__file__).with_name("train.py")
RUN = "data.train_size=48 data.validation_size=8 data.test_size=10 trainer.max_steps=6 trainer.evaluate_every=2"
RUN += " trainer.logging_steps=1 trainer.lr_warmup_steps=0 task.max_target_tokens=16 device=cpu"
LAST_STEP = 6
TIMED = {"seconds", "train_runtime", "training_seconds", "decoding_seconds"}
COMPARED = ["history.json", "metrics.json", "predictions.jsonl", "training.json"]
WHERE_THERE = ["segment_scores.json", "warmup_analysis.json"]
STEP_OF_POLLING = 0.002  # seconds


class Process:
    """The command in a process of its own."""

    def __init__(self, words: list[str], output: Path) -> None:
        self.output, self.ended = output, False
        self.pid = os.fork()
        if not self.pid:
            self._be_the_command(words)

    def _be_the_command(self, words: list[str]) -> None:
        status = 1
        try:
            for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
                stream.flush()
                os.dup2(os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            sys.argv = [str(SCRIPT), *words]
            runpy.run_path(str(SCRIPT), run_name="__main__")
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def alive(self) -> bool:
        """Whether it still runs; exits with its output if it failed."""
        if not self.ended:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.ended = pid != 0
            if self.ended and status:
                sys.exit(f"the command failed:\n{self.output.read_text()[-3000:]}")
        return not self.ended

    def kill_when(self, due: Callable[[], bool]) -> bool:
        """Kill it as soon as `due`; false if it ended before."""
        while not due():
            if not self.alive():
                return False
            time.sleep(STEP_OF_POLLING)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.ended = True
        return True


def moments(run: Path, output: Path, seconds: float, chance: random.Random) -> dict[str, Callable[[], bool]]:
    """When a run may be killed: kinds of moments, each with a test for its having come."""
    begun, jitter = time.monotonic(), chance.uniform(0, 0.1)
    at = begun + chance.uniform(0, seconds)
    since: dict[str, float] = {}

    def after(name: str, there: bool) -> bool:
        if there:
            since.setdefault(name, time.monotonic())
        return name in since and time.monotonic() - since[name] >= jitter

    def said(text: str) -> bool:
        return output.exists() and text in output.read_text()

    aside = run / "checkpoints" / ".unfinished"
    return {
        "any moment": lambda: time.monotonic() >= at,
        "a step": lambda: after("step", said("it/s]")),
        "evaluation": lambda: after("evaluation", said("decoding validation")),
        "a save": lambda: any(aside.glob("*")) and chance.random() < 0.2,
        "the last save": lambda: (aside / f"checkpoint-{LAST_STEP}").exists() and chance.random() < 0.2,
        "saving the model": (run / ".model").exists,
        "the test set": lambda: after("test", said("decoding test")),
        "the results": lambda: after("results", (run / "predictions.jsonl").exists()),
    }


def without_times(value: Any) -> Any:
    """JSON without seconds."""
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in TIMED}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def results(run: Path) -> dict[str, bytes]:
    """What a run ended with, file by file; the order of keys counts."""
    found = {f"model/{path.name}": path.read_bytes() for path in (run / "model").iterdir()}
    for name in [*COMPARED, *(name for name in WHERE_THERE if (run / name).exists())]:
        text = (run / name).read_text(encoding="utf-8")
        found[name] = (text if name.endswith("l") else json.dumps(without_times(json.loads(text)))).encode()
    found["left over"] = "\n".join(str(path.relative_to(run)) for path in run.rglob(".*")).encode()
    return found


def kill_and_compare(method: str, kills: int, folder: Path, chance: random.Random) -> None:
    """Kill runs of a method `kills` times; exits with what differs, if anything does."""
    words = [*RUN.split(), f"method={method}"]
    begun = time.monotonic()
    whole = Process([*words, f"hydra.run.dir={folder}/whole"], folder / "whole.txt")
    while whole.alive():
        time.sleep(STEP_OF_POLLING)
    seconds, expected = time.monotonic() - begun, results(folder / "whole")
    killed: Counter[str] = Counter()
    run, runs = folder / "run-1", 1
    while sum(killed.values()) < kills or run.exists():
        output = folder / "output.txt"
        output.unlink(missing_ok=True)
        process = Process([*words, f"hydra.run.dir={run}"], output)
        due = moments(run, output, seconds, chance)
        kind = min(due, key=lambda name: (killed[name], chance.random()))
        if sum(killed.values()) < kills and process.kill_when(due[kind]):
            killed[kind] += 1
            continue
        while process.alive():
            time.sleep(STEP_OF_POLLING)
        found = results(run)
        if found != expected:
            different = [name for name in expected.keys() | found if found.get(name) != expected.get(name)]
            sys.exit(f"{method}: {run} ended otherwise than {folder / 'whole'}: {', '.join(sorted(different))}")
        shutil.rmtree(run)
        if sum(killed.values()) < kills:
            runs += 1
            run = folder / f"run-{runs}"
    counts = ", ".join(f"{count} in {kind}" for kind, count in killed.items())
    print(f"{method}: {kills} kills ({counts}) of {runs} runs ended as the run that was left alone", flush=True)


def main() -> None:
    """Both methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20, help="of each method")
    parser.add_argument("--methods", nargs="+", default=["sft", "warmup"])
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, default=Path("outputs/kills"), help="it must not exist, and is removed")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    for method in options.methods:
        folder = options.folder / method
        folder.mkdir()
        kill_and_compare(method, options.kills, folder, random.Random(options.seed))
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
