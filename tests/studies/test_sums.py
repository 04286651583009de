"""The case that can say yes: its problems, its text of pretraining, and the model that the program then reads."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmup.models.encoding import IGNORED_LABEL
from warmup.studies.sums import pretraining
from warmup.studies.sums.pretraining import SPLIT_SIZES, pretrain, write_splits
from warmup.studies.sums.problems import Summands, answer, document, problems, question


def by_hand(text: str) -> list[int]:
    """The running totals of a question, from its words."""
    *terms, divisor = (int(word) for word in text.split() if word.isdigit())
    totals, total = [], 0
    for term in terms:
        total += term
        totals.append(total - divisor * (total // divisor))
    return totals


def test_every_document_ends_in_the_right_answer_and_a_fifth_hold_the_steps_to_it() -> None:
    rng, kinds = random.Random(3), Counter[bool]()
    for problem in islice(problems(rng), 4000):
        source, rest = document(problem, rng, worked=0.2)
        start, remark, name, last = rest.split("\n")
        totals = by_hand(source)
        assert (start, name, last) == ("", "Answer:", str(totals[-1]))
        kinds[remark == " ".join(map(str, totals))] += 1
    assert 0.18 < kinds[True] / 4000 < 0.22


def test_no_problem_is_in_two_splits(tmp_path: Path) -> None:
    held_out = write_splits(tmp_path, seed=1)
    records = {
        split: [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        for split in SPLIT_SIZES
    }
    assert {split: len(found) for split, found in records.items()} == SPLIT_SIZES
    sources = [record["source"] for found in records.values() for record in found]
    assert len(set(sources)) == len(sources) == len(held_out)
    assert all(record["target"] == str(by_hand(record["source"])[-1]) for record in records["test"])
    assert set(sources) == {question(problem) for problem in held_out}


def test_pretraining_reads_no_held_out_problem_and_writes_what_transformers_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(pretraining, "BATCH", 8)
    row = pretraining._row

    def watched(tokenizer: object, source: str, rest: str) -> dict[str, list[int]]:
        read.append(source)
        found = row(tokenizer, source, rest)  # type: ignore[arg-type]
        learnt = [label for label in found["labels"] if label != IGNORED_LABEL]
        assert tokenizer.decode(learnt) == f"{rest}</s>"  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(pretraining, "_row", watched)
    rng = random.Random(0)  # the first problems that pretraining with seed 0 would draw
    held_out = set(islice(problems(rng), 20))
    pretrain(tmp_path / "model", held_out, steps=3, seed=0)
    assert len(read) == 24
    assert not {question(problem) for problem in held_out} & set(read)
    model, tokenizer = (kind.from_pretrained(tmp_path / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert tokenizer.eos_token_id == model.config.eos_token_id
    assert all(len(tokenizer(f" {digit}")["input_ids"]) == 1 for digit in range(5))


def test_an_answer_is_the_remainder() -> None:
    assert [answer(problem) for problem in ((4, 4, 4, 4, 4, 4), (0, 0, 0, 0, 0, 0), (1, 2, 3, 4, 0, 1))] == list("401")


def test_the_first_half_of_pretraining_holds_more_of_the_steps_and_is_read_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    written = pretraining.document

    def watched(problem: Summands, rng: random.Random, worked: float) -> tuple[str, str]:
        shares.append(worked)
        return written(problem, rng, worked)

    monkeypatch.setattr(pretraining, "BATCH", 4)
    monkeypatch.setattr(pretraining, "document", watched)
    pretrain(tmp_path / "model", set(), steps=5, seed=0)
    assert shares == [0.5] * 8 + [0.1] * 12
