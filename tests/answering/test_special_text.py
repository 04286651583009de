"""Special tokens in the data from end to end: learnt, written, scored and shown as the text that they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import T5Config, T5ForConditionalGeneration

from tests.answering.test_decoding import answerer, encoded, sources_of
from tests.models.tokenizer_kinds import unigram
from tests.test_train_command import command
from warmup.answering.marginal import score_candidates
from warmup.data.examples import Example
from warmup.models.encoding import encode_targets

TARGET = "<s>red</s> and <sep>blue<pad> <unk>"
SOURCES = ["one <sep> two", "three </s>", "<pad> four", "five", "six six"]


def write_lines(path: Path, records: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_special_tokens_of_the_data_survive_into_answers(tmp_path: Path) -> None:
    records = [{"source": f"{source} {number}", "target": TARGET} for source in SOURCES for number in range(4)]
    data = write_lines(tmp_path / "train.jsonl", records)
    run = tmp_path / "run"
    result = command(
        *["task=custom", "task.metrics=[bleu]", "task.selection_metric=bleu", "data=local"],
        *["data.validation_fraction=0.2", "data.test_fraction=0.3", f"data.train={data}"],
        *["model.width=32", "model.layers=1", "model.heads=2", "model.feed_forward=64"],
        *["trainer.batch_size=4", "trainer.max_steps=60", "trainer.evaluate_every=60", "trainer.learning_rate=0.01"],
        *["method=warmup", "method.num_samples=2", "method.sft_steps=0"],
        f"hydra.run.dir={run}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert {line["prediction"] for line in predictions} == {line["reference"] for line in predictions} == {TARGET}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["scores"]["bleu"]["value"] == pytest.approx(100)
    assert {split: set(sides) for split, sides in metrics["unwritable"].items()} == {
        split: {"sources", "targets"} for split in ("train", "validation", "test")
    }
    assert all(side["examples"] == 0 for sides in metrics["unwritable"].values() for side in sides.values())
    assert "cannot write" not in result.stdout + result.stderr


def test_what_a_published_tokenizer_cannot_write_is_in_the_metrics(tmp_path: Path) -> None:
    """T5 has no brace: references full of them cannot be reached, and the run says so, once for each side."""
    tokenizer = unigram()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    records = [{"source": "a b", "target": "{c}"}, {"source": "d", "target": "a </s> b"}]
    data = write_lines(tmp_path / "test.jsonl", records)
    result = command(
        *["run=evaluate", "task=custom", "task.metrics=[bleu]", "task.selection_metric=bleu", "data=local"],
        *["task.max_target_tokens=4", "method=sft"],
        f"checkpoint={tmp_path / 't5'}",
        f"data.test={data}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics["unwritable"]) == {"test"}
    assert metrics["unwritable"]["test"]["sources"]["example_share"] == 0
    targets = metrics["unwritable"]["test"]["targets"]
    assert targets["most_frequent"] == {"{": 1, "}": 1} and targets["example_share"] == 0.5
    assert (result.stdout + result.stderr).count("hold characters that the tokenizer cannot write") == 1


def test_options_are_scored_as_the_text_they_are(make_backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make_backbone("t5")
    batch = encoded(backbone, sources_of(backbone))
    options = ["fox</s>", "<sep>we", "read <unk>", "fox"]
    rows = encode_targets(backbone, [Example("", "", option) for option in options], 99, "test")
    asked: list[object] = []

    def score(*arguments: object) -> object:
        asked.append(arguments[3])
        return score_candidates(*arguments)

    monkeypatch.setattr("warmup.answering.answerer.score_candidates", score)
    answers = answerer(backbone).choose_options(batch, [options] * len(batch.ids))
    assert asked == [[rows] * len(answers)] and all(answer.prediction in options for answer in answers)
