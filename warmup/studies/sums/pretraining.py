"""Write the task's files and the small pretrained Llama that the study of sums begins with."""

from __future__ import annotations

import random
import tempfile
from itertools import islice
from pathlib import Path

from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from warmup.files import write_json_lines
from warmup.models.encoding import IGNORED_LABEL
from warmup.models.tokenizers import train_byte_level_bpe
from warmup.studies.sums.problems import Summands, answer, document, problems, question

SPLIT_SIZES = {"train": 2000, "validation": 200, "test": 500}
END, PADDING = "</s>", "<pad>"
BATCH = 64
# The share of documents with the steps to the answer, in the first and in the second half of pretraining. So the model
# can write them, and seldom does.
WORKED = (0.5, 0.1)


def write_splits(folder: Path, seed: int) -> set[Summands]:
    """Write train.jsonl, validation.jsonl and test.jsonl, no problem twice; returns the problems."""
    seen: dict[Summands, None] = {}
    drawn = problems(random.Random(seed))
    while len(seen) < sum(SPLIT_SIZES.values()):
        seen[next(drawn)] = None
    left = iter(seen)
    for split, count in SPLIT_SIZES.items():
        records = [{"source": question(problem), "target": answer(problem)} for problem in islice(left, count)]
        write_json_lines(folder / f"{split}.jsonl", records)
    return set(seen)


def pretrain(folder: Path, held_out: set[Summands], steps: int, seed: int) -> None:
    """Train a Llama of 0.5 million parameters on `steps` times 64 documents; save it with its tokenizer in `folder`.

    The loss is on what follows a question. None of the problems that are `held_out` occurs.
    """
    set_seed(seed)
    rng = random.Random(seed)
    fresh = (problem for problem in problems(rng) if problem not in held_out)
    documents = [
        document(problem, rng, worked)
        for worked, count in zip(WORKED, (steps // 2, steps - steps // 2), strict=True)
        for problem in islice(fresh, count * BATCH)
    ]
    tokenizer = _tokenizer(["".join(texts) for texts in documents[:2000]])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with tempfile.TemporaryDirectory() as scratch:
        how = TrainingArguments(
            scratch,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            weight_decay=0.01,
            seed=seed,
            save_strategy="no",
            report_to=[],
            logging_steps=200,
        )
        rows = Dataset.from_list([_row(tokenizer, *texts) for texts in documents]).to_iterable_dataset()  # in order
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED_LABEL)
        trainer = Trainer(LlamaForCausalLM(config), how, collate, rows)
        trainer.train()
    trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _row(tokenizer: PreTrainedTokenizerFast, source: str, rest: str) -> dict[str, list[int]]:
    """A document's tokens, and its labels: the source is read, and not learnt."""
    read = tokenizer(source)["input_ids"]
    learnt = tokenizer(rest + END)["input_ids"]
    return {"input_ids": read + learnt, "labels": [IGNORED_LABEL] * len(read) + learnt}


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most 400 tokens: a digit is one."""
    model = train_byte_level_bpe(texts, 400, [PADDING, END], add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token=END, pad_token=PADDING)
