"""The splits of a run: which are read, how they are divided and limited, and when one is empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warmup.config.schema import LocalData, OptionsConfig, TaskConfig, ToyData
from warmup.data.examples import Example, Wording
from warmup.data.load import load_inputs, load_splits, split_off
from warmup.errors import UserError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
real_data = [
    pytest.mark.needs_real_data,
    pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent"),
]
CUSTOM = TaskConfig(name="custom", source_template="{source}", target_template="{target}")
TRANSLATION = TaskConfig(
    name="translation",
    source_template="translate {source_language} to {target_language}: {source}",
    target_template="{target}",
    source_language="de",
    target_language="en",
)
LOGIQA = TaskConfig(
    name="logiqa",
    source_template="question: {question} options: {options} context: {text}",
    target_template="{answer}",
    options=OptionsConfig("options", "answer", ["A", "B", "C", "D"]),
)
SUMMARIZATION = TaskConfig(name="summarization", source_template="summarize: {document}", target_template="{summary}")


def table(path: Path, sources: list[str]) -> str:
    path.write_text("".join(json.dumps({"source": text, "target": text.upper()}) + "\n" for text in sources))
    return str(path)


def sources(examples: list[Example]) -> list[str]:
    return [example.source for example in examples]


@pytest.mark.parametrize("task", [CUSTOM, TRANSLATION, LOGIQA, SUMMARIZATION], ids=lambda task: task.name)
def test_toy_splits_are_disjoint_and_a_larger_training_set_keeps_the_test_set(task: TaskConfig) -> None:
    small = load_splits(task, ToyData(train_size=50, validation_size=20, test_size=30, max_validation_examples=5))
    assert (len(small.train), len(small.validation), len(small.test)) == (50, 5, 30)
    assert len({example.prompt for example in small.train + small.validation + small.test}) == 85
    assert all(example.target for example in small.train)
    large = load_splits(task, ToyData(train_size=90, validation_size=20, test_size=30), ["test"])
    assert large.test == small.test
    assert large.train == []


def test_toy_data_for_a_wording_of_ones_own_is_refused() -> None:
    task = TaskConfig(name="custom", source_template="{question}", target_template="{reply}")
    with pytest.raises(UserError, match="field 'question', but data=toy makes up only source, target .* data=local"):
        load_splits(task, ToyData())


def test_named_files_are_read_in_order_and_limited_to_the_first(tmp_path: Path) -> None:
    data = LocalData(
        train=table(tmp_path / "a.jsonl", ["1", "2", "3"]),
        validation=table(tmp_path / "b.jsonl", ["4", "5"]),
        test=table(tmp_path / "c.jsonl", ["6"]),
        max_train_examples=2,
    )
    splits = load_splits(CUSTOM, data)
    assert (sources(splits.train), sources(splits.validation), sources(splits.test)) == (["1", "2"], ["4", "5"], ["6"])


def test_only_the_needed_splits_are_read(tmp_path: Path) -> None:
    data = LocalData(train=str(tmp_path / "absent.jsonl"), test=table(tmp_path / "c.jsonl", ["6"]))
    splits = load_splits(CUSTOM, data, ["test"])
    assert (splits.train, splits.validation, sources(splits.test)) == ([], [], ["6"])


def test_splitting_off_is_seeded_disjoint_and_complete(tmp_path: Path) -> None:
    texts = [f"text {n % 80}" for n in range(100)]  # twenty sources appear twice
    data = LocalData(train=table(tmp_path / "a.jsonl", texts), validation_fraction=0.2, test_fraction=0.1, split_seed=3)
    splits = load_splits(CUSTOM, data)
    parts = [sources(splits.train), sources(splits.validation), sources(splits.test)]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(texts)
    assert len({*parts[0]}) + len({*parts[1]}) + len({*parts[2]}) == 80  # no source in two splits
    assert 20 <= len(parts[1]) <= 21 and 10 <= len(parts[2]) <= 11
    assert load_splits(CUSTOM, data) == splits
    data.split_seed = 4
    assert load_splits(CUSTOM, data) != splits


def test_what_is_split_off_depends_neither_on_the_limits_nor_on_what_is_needed(tmp_path: Path) -> None:
    path = table(tmp_path / "a.jsonl", [f"text {n}" for n in range(50)])
    whole = load_splits(CUSTOM, LocalData(train=path))
    part = load_splits(CUSTOM, LocalData(train=path, max_train_examples=3, max_test_examples=2), ["train", "test"])
    assert part.train == whole.train[:3]
    assert part.test == whole.test[:2]
    assert part.validation == []


def test_a_named_test_file_leaves_only_validation_to_split_off(tmp_path: Path) -> None:
    path = table(tmp_path / "a.jsonl", [f"text {n}" for n in range(20)])
    splits = load_splits(CUSTOM, LocalData(train=path, test=table(tmp_path / "t.jsonl", ["x"])))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 1)


def test_a_small_fraction_gets_at_least_one_example() -> None:
    examples = [Example(str(n), str(n), "y") for n in range(3)]
    parts = split_off(examples, {"test": 0.1, "validation": 0.1}, seed=0)
    assert {split: len(part) for split, part in parts.items()} == {"test": 1, "validation": 1, "train": 1}


def test_empty_splits_name_their_key(tmp_path: Path) -> None:
    path = table(tmp_path / "a.jsonl", ["1", "2"])
    for data, message in [
        (LocalData(train=table(tmp_path / "e.jsonl", [])), "the train split is empty: .*e.jsonl"),
        (LocalData(train=path, test=table(tmp_path / "e.jsonl", [])), "the test split is empty: .*data.test"),
        (LocalData(train=path, test_fraction=0.0), "the test split is empty: .*data.test_fraction=0.0.*data.test=FILE"),
        (LocalData(train=path), "the train split is empty: .* of 2 training examples"),
        (LocalData(), "data.train is not set"),
    ]:
        with pytest.raises(UserError, match=message):
            load_splits(CUSTOM, data)


def test_columns_are_mapped_to_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"translation": {"de": "eins", "en": "one"}, "target": "x"}\n')
    data = LocalData(test=str(path), fields={"source": "translation.de", "target": "translation.en"})
    (example,) = load_splits(TRANSLATION, data, ["test"]).test
    assert (example.source, example.target) == ("eins", "one")
    for fields, message in [
        ({"source": "translation.fr"}, "a.jsonl, line 1: no column 'translation.fr', .*data.fields.*only de, en"),
        ({"source": "transaltion"}, "line 1: no column 'transaltion'.*did you mean 'translation'"),
        ({"sorce": "a"}, "data.fields.sorce: .*source, target; did you mean 'source'"),
        ({}, "line 1: no field 'source', only translation, target;"),
    ]:
        with pytest.raises(UserError, match=message):
            load_splits(TRANSLATION, LocalData(test=str(path), fields=fields), ["test"])


def test_a_bad_record_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n\n{"source": "a", "target": " "}\n')
    with pytest.raises(UserError, match="a.jsonl, line 3: the target is empty"):
        load_splits(CUSTOM, LocalData(test=str(path)), ["test"])
    path.write_text('{"text": "t", "question": "q", "options": ["a", "b", "c", "d"], "answer": 5}\n')
    with pytest.raises(UserError, match="a.jsonl, line 1, answer is 5; allowed: 0 to 3"):
        load_splits(LOGIQA, LocalData(test=str(path)), ["test"])


def test_parallel_files_take_the_fields_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_text("long text\n")
    (tmp_path / "a.sum").write_text("text\n")
    data = LocalData(test_source=str(tmp_path / "a.doc"), test_target=str(tmp_path / "a.sum"))
    (example,) = load_splits(SUMMARIZATION, data, ["test"]).test
    assert (example.source, example.target) == ("long text", "text")
    with pytest.raises(UserError, match="hold one text each, but the task reads question, options, text, answer"):
        load_splits(LOGIQA, data, ["test"])


def test_inputs_without_references(tmp_path: Path) -> None:
    wording = Wording.from_config(TRANSLATION)
    lines = tmp_path / "inputs.txt"
    lines.write_text("eins\nzwei\n")
    jsonl = tmp_path / "inputs.jsonl"
    jsonl.write_text('{"source": "eins", "id": [1]}\n{"source": "zwei"}\n')
    csv = tmp_path / "inputs.csv"
    csv.write_text("german,note\neins,\nzwei,x\n")
    found = load_inputs(str(lines), wording)
    assert [(e.source, e.prompt, e.target) for e in found] == [
        ("eins", "translate German to English: eins", None),
        ("zwei", "translate German to English: zwei", None),
    ]
    assert load_inputs(str(jsonl), wording) == found
    assert load_inputs(str(csv), wording, {"source": "german", "target": "english"}) == found


def test_a_carriage_return_inside_an_input_makes_no_second_one(tmp_path: Path) -> None:
    (tmp_path / "inputs.txt").write_bytes("ei\rns\r\nzw\u2028ei\n".encode())
    found = load_inputs(str(tmp_path / "inputs.txt"), Wording.from_config(CUSTOM))
    assert sources(found) == ["ei\rns", "zw\u2028ei"]


def test_inputs_that_cannot_be_answered(tmp_path: Path) -> None:
    lines = tmp_path / "inputs.txt"
    lines.write_text("eins\n\n")
    with pytest.raises(UserError, match="inputs.txt, line 2: the source is empty"):
        load_inputs(str(lines), Wording.from_config(TRANSLATION))
    with pytest.raises(UserError, match="is plain text, but the task reads question, options, text"):
        load_inputs(str(lines), Wording.from_config(LOGIQA))
    lines.write_text("")
    with pytest.raises(UserError, match="has no examples"):
        load_inputs(str(lines), Wording.from_config(TRANSLATION))


@pytest.mark.parametrize("data", [pytest.param(None, marks=real_data)])
def test_multi30k(data: None) -> None:
    folder = REAL / "multi30k"
    paths = {
        f"test_{side}": str(folder / f"test_2016_flickr.{code}.gz")
        for side, code in (("source", "de"), ("target", "en"))
    }
    splits = load_splits(TRANSLATION, LocalData(**paths), ["test"])  # type: ignore[arg-type]
    assert len(splits.test) == 1000
    assert splits.test[0].target == "A man in an orange hat starring at something."


@pytest.mark.parametrize("data", [pytest.param(None, marks=real_data)])
def test_logiqa(data: None) -> None:
    splits = load_splits(LOGIQA, LocalData(train=str(REAL / "logiqa2" / "dev.jsonl")))
    parts = [{example.prompt for example in part} for part in (splits.train, splits.validation, splits.test)]
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 1569
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
