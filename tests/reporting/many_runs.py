"""Made-up runs to time `run=tables` on: `python -m tests.reporting.many_runs FOLDER` writes 66 of 1,000 examples each.

Two translations, SFT and ten variants of warmup, three seeds; sentences of 6 to 20 words, scored by sacrebleu.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import yaml

from warmup.metrics.evaluation import compute_metrics
from warmup.metrics.metric import ScoringSettings, Texts

EXAMPLES, SEEDS, VARIANTS = 1000, (1, 2, 3), range(1, 11)
WORDS = [f"{start}{end}" for start in "bdfgklmnprst" for end in ("a", "an", "e", "en", "i", "in", "o", "on", "u", "un")]


def sentence(generator: random.Random) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randint(6, 20)))


def noisy(text: str, share: float, generator: random.Random) -> str:
    return " ".join(generator.choice(WORDS) if generator.random() < share else word for word in text.split())


def write_runs(folder: Path) -> None:
    for task in ("translation de-en", "translation en-de"):
        references = [sentence(random.Random(f"{task} {number}")) for number in range(EXAMPLES)]
        for variant in (0, *VARIANTS):
            for seed in SEEDS:
                write_run(folder / f"{task.replace(' ', '_')}_{variant}_{seed}", task, variant, seed, references)


def write_run(run: Path, task: str, variant: int, seed: int, references: list[str]) -> None:
    """A run of SFT where `variant` is 0, else of warmup with that many samples."""
    generator = random.Random(f"{run.name}")
    answers = [noisy(text, 0.5 - 0.005 * variant, generator) for text in references]
    warmups = [noisy(text, 0.8, generator) if variant else None for text in references]
    evaluation = compute_metrics(["bleu", "chrf"], Texts(answers, references), ScoringSettings("en"))
    method = {"name": "warmup", "num_samples": variant} if variant else {"name": "sft"}
    run.mkdir(parents=True)
    record = {
        "task": task,
        "data": "made up",
        "model": "none",
        "method": method["name"],
        "seed": seed,
        "overrides": {},
        "split": "test",
        "examples": EXAMPLES,
        "scores": {name: {"value": s.value, "signature": s.signature} for name, s in evaluation.scores.items()},
        "chance": {},
        "skipped": {},
        "invalid_answers": None,
        "training_seconds": 100.0,
        "decoding_seconds": 10.0,
        "selection_metric": "bleu",
    }
    (run / "config.yaml").write_text(yaml.safe_dump({"method": method, "task": {"target_language": "en"}}))
    (run / "metrics.json").write_text(json.dumps(record))
    lines = zip(references, warmups, answers, references, strict=True)
    keys = ("source", "warmup", "prediction", "reference")
    text = "".join(json.dumps(dict(zip(keys, line, strict=True))) + "\n" for line in lines)
    (run / "predictions.jsonl").write_text(text)
    history = [{"step": step, "target_nll": 3 - step / 1000, "eval_bleu": step / 50} for step in range(10, 1001, 10)]
    for entry in history if variant else []:
        entry |= {"warmup/length": 8.0, "warmup/gain": 0.1, "warmup/token_entropy": 2.0}
    (run / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    write_runs(Path(sys.argv[1]))
