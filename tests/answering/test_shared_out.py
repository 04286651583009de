"""Answers of several processes: the order of the examples, for odd numbers of them and for fewer than processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch.distributed as dist
from accelerate import PartialState

from tests.saved_model import save_model
from tests.training.test_distributed import PATIENCE, two_processes
from warmup.answering.answerer import Answerer
from warmup.config.schema import EvaluationConfig
from warmup.models.checkpoint_settings import Limits
from warmup.models.loading import load_pretrained
from warmup.training.processes import leave_process_group

LIMITS = Limits(source=16, warmup=3, target=4)
COUNTS = [5, 2, 1]
TEXTS = ["zwei Hunde am See", "ein Mann am Strand läuft", "ein Ball", "die Frau liest zwei Bücher am See", "zwei"]


def answers_of(folder: str, count: int) -> list[list[str | None]]:
    backbone = load_pretrained(f"{folder}/model")
    sources = [[*backbone.tokenizer(text, add_special_tokens=False)["input_ids"], 1] for text in TEXTS[:count]]
    answers, _ = Answerer(backbone, LIMITS, EvaluationConfig(batch_size=2)).answer_encoded(sources, "test")
    return [[answer.warmup, answer.prediction] for answer in answers]


def one_of_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=PATIENCE)
    with pytest.MonkeyPatch.context() as patch:  # what torchrun says
        for key, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2)):
            patch.setenv(key, str(value))
        patch.setenv("MASTER_ADDR", "localhost")
        patch.setenv("MASTER_PORT", "1")  # not opened: the group is there already
        assert PartialState(cpu=True).num_processes == 2
        found = [answers_of(folder, count) for count in COUNTS]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    leave_process_group()


def test_answers_come_in_the_order_of_the_examples(tmp_path: Path) -> None:
    save_model(tmp_path / "model", TEXTS)
    two_processes(one_of_two, str(tmp_path))
    alone = [answers_of(str(tmp_path), count) for count in COUNTS]
    assert len({tuple(answer) for answer in alone[0]}) > 2  # or the order could not be told
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == alone
