"""The examples of a run: which splits, from where, and how many."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from warmup.config.data import SPLITS
from warmup.config.schema import DataConfig, HubData, LocalData, TaskConfig, ToyData
from warmup.data import local, toy
from warmup.data.examples import Example, Wording
from warmup.data.kept import digest_of
from warmup.data.local import LocatedRecord
from warmup.data.stored import StoredExamples, WordedExamples, selected
from warmup.data.streams import ExampleStream
from warmup.data.texts import EmptyText, listing, missing_field
from warmup.errors import UserError, nearest
from warmup.files import check_file, file_digest

if TYPE_CHECKING:
    from warmup.data.hub import HubRecords


@dataclass
class Splits:
    """The examples of each split, in memory or on disk; a split that was not asked for is empty."""

    train: Sequence[Example] = field(default_factory=list)
    validation: Sequence[Example] = field(default_factory=list)
    test: Sequence[Example] = field(default_factory=list)
    stream: ExampleStream | None = None  # what is trained on in place of `train`

    @property
    def examples(self) -> dict[str, Sequence[Example]]:
        """Those of each split by its name."""
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def streamed(self) -> dict[str, str]:
        """The digest of a stream by its name."""
        return {"training stream": self.stream.digest} if self.stream else {}


def load_splits(
    task: TaskConfig, data: DataConfig, needed: Sequence[str] = SPLITS, wording: Wording | None = None
) -> Splits:
    """Read and word the splits that are `needed`; of each the first `max_*_examples` are kept.

    `wording`: of the model that will read them; None: the task's own.

    Raises:
        UserError: anything wrong with the data, an empty split included.
    """
    wording, stream = wording or Wording.from_config(task), None
    if isinstance(data, ToyData):
        found: Mapping[str, Sequence[Example]] = _toy_splits(task, data, wording, needed)
    elif isinstance(data, LocalData):
        found = _local_splits(data, wording, needed)
    elif isinstance(data, HubData):
        streamed = ["train"] if data.endless and "train" in needed else []
        stream = _stream(data, wording) if streamed else None
        needed = [split for split in needed if split not in streamed]
        found = {split: _hub_split(data, wording, split) for split in needed}
    else:
        raise TypeError(f"no loader for {type(data).__name__}")
    return Splits(**{split: found[split][: _limit(data, split)] for split in needed}, stream=stream)


def load_inputs(path: str, wording: Wording, fields: Mapping[str, str] | None = None) -> list[Example]:
    """Examples without references, for run=predict: any table, or plain text where the source is one field.

    Raises:
        UserError: the file cannot be read, lacks a field of the source, or is empty.
    """
    if local.table_kind(path):
        rows: Iterable[LocatedRecord] = local.read_table(path)
    elif len(wording.source_fields) == 1:
        rows = (({wording.source_fields[0]: line}, where) for line, where in local.read_text(path))
        fields = {}  # a line of text has no columns to choose from
    else:
        raise UserError(
            f"inputs={path} is plain text, but the task reads {listing(wording.source_fields)}: "
            f"give a file with these fields; allowed: {', '.join(local.TABLE_KINDS)}"
        )
    examples = [_word(row, wording, fields or {}, "data.fields", with_target=False) for row in rows]
    if not examples:
        raise UserError(f"inputs={path} has no examples")
    return examples


def split_off(examples: Sequence[Example], fractions: Mapping[str, float], seed: int) -> dict[str, Sequence[Example]]:
    """Divide `examples` into `train` and the splits of `fractions`, at random by `seed`, each in the given order.

    Examples with equal prompts stay together, so that no source is in two splits. A fraction above 0 gets at
    least one example.
    """
    group_of = _prompt_groups(examples)  # [n]
    sizes = np.bincount(group_of)  # [groups]
    shuffled = array("q", range(len(sizes)))
    random.Random(seed).shuffle(shuffled)
    order = np.array(shuffled)[::-1]
    ends = np.cumsum(sizes[order])  # how many examples the groups up to here have
    split_of = np.zeros(len(sizes), np.int8)  # 0: train
    taken = examples_taken = 0
    for number, fraction in enumerate(fractions.values(), start=1):
        if fraction > 0:
            wanted = examples_taken + max(1, round(fraction * len(examples)))
            until = min(len(order), int(np.searchsorted(ends, wanted)) + 1)
            split_of[order[taken:until]] = number
            taken, examples_taken = until, int(ends[until - 1]) if until else 0
    owner = split_of[group_of]
    return {
        split: selected(examples, np.flatnonzero(owner == number)) for number, split in enumerate(["train", *fractions])
    }


def _prompt_groups(examples: Sequence[Example]) -> np.ndarray:
    """[n] the number of each example's prompt, in order of first appearance."""
    if not isinstance(examples, StoredExamples):
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(example.prompt, len(numbers)) for example in examples], np.int64)
    _, first, group_of = np.unique(examples.prompt_hashes, return_index=True, return_inverse=True)
    numbered = np.empty(len(first), np.int64)
    numbered[np.argsort(first)] = np.arange(len(first))
    found: np.ndarray = numbered[group_of]
    return found


def _limit(data: DataConfig, split: str) -> int | None:
    limit: int | None = getattr(data, f"max_{split}_examples")
    return limit


def _toy_splits(task: TaskConfig, data: ToyData, wording: Wording, needed: Sequence[str]) -> dict[str, list[Example]]:
    # training comes last, so that a larger training set leaves validation and test as they were
    _check_toy_fields(task, wording)
    sizes = {"test": data.test_size, "validation": data.validation_size, "train": data.train_size}
    records = iter(toy.generate(task.name, sum(sizes.values()), data.seed))
    parts = {split: list(islice(records, size)) for split, size in sizes.items()}
    return {
        split: [wording.example(record, f"toy {split} record {n}") for n, record in enumerate(parts[split], start=1)]
        for split in needed
    }


def _check_toy_fields(task: TaskConfig, wording: Wording) -> None:
    """Toy records have the fields of the task's own wording; another wording needs data of its own."""
    has = list(toy.generate(task.name, 1, 0)[0])
    for name in wording.record_fields():
        if name not in has:
            raise UserError(
                f"the task reads a field '{name}', but data=toy makes up only {listing(has)} for task={task.name}; "
                "give your own data: data=local data.train=FILE"
            )


def _local_splits(data: LocalData, wording: Wording, needed: Sequence[str]) -> dict[str, Sequence[Example]]:
    _check_fields(data.fields or {}, wording, "data.fields")
    fractions = {"test": data.test_fraction, "validation": data.validation_fraction}
    fractions = {split: fraction for split, fraction in fractions.items() if not _is_given(data, split)}
    found: dict[str, Sequence[Example]] = {}
    if "train" in needed or any(split in needed for split in fractions):
        # the whole file: what is split off must not depend on how much of it is trained on
        whole = _local_split(data, wording, "train", None if fractions else _limit(data, "train"))
        found = split_off(whole, fractions, data.split_seed)
    for split in ("validation", "test"):
        if split in needed and split not in fractions:
            found[split] = _local_split(data, wording, split, _limit(data, split))
    for split in needed:
        if not found[split]:
            raise _nothing_left(split, whole, fractions)
    return found


def _nothing_left(split: str, whole: Sequence[Example], fractions: Mapping[str, float]) -> UserError:
    shares = ", ".join(f"data.{name}_fraction={fraction}" for name, fraction in fractions.items())
    total = f"{len(whole)} training examples with {len({*_prompt_groups(whole).tolist()})} different sources"
    cure = f"raise data.{split}_fraction or give data.{split}=FILE" if split != "train" else "lower these fractions"
    return UserError(f"the {split} split is empty: {shares} of {total} leave it none; {cure}")


def _is_given(data: LocalData, split: str) -> bool:
    return any(getattr(data, split + form) is not None for form in ("", "_source", "_target"))


def _local_split(data: LocalData, wording: Wording, split: str, limit: int | None) -> Sequence[Example]:
    """The first `limit` examples of the file or files given for `split`; never none."""
    table, source, target = (getattr(data, split + form) for form in ("", "_source", "_target"))
    fields: Mapping[str, str] = data.fields or {}
    if table is not None:
        read = partial(local.read_table, table)
    elif source is not None and target is not None:
        if len(wording.source_fields) != 1 or len(wording.target_fields) != 1:
            raise UserError(
                f"data.{split}_source and data.{split}_target hold one text each, but the task reads "
                f"{listing(wording.source_fields + wording.target_fields)}; give one table: data.{split}=FILE"
            )
        read = partial(local.read_parallel, source, target, wording.source_fields[0], wording.target_fields[0])
        fields = {}  # a line of text has no columns to choose from
    else:
        raise UserError(
            f"data.{split} is not set; give data.{split}=FILE, or data.{split}_source=FILE data.{split}_target=FILE"
        )
    files = [path for path in (table, source, target) if path is not None]

    def content() -> Any:
        kinds = [[local.table_kind(path), file_digest(check_file(path))] for path in files]
        return [kinds, dict(fields), asdict(wording)]

    def worded() -> Iterator[Example]:  # nothing is read before the first is asked for
        for row in read():
            yield _word(row, wording, fields, "data.fields")

    examples = WordedExamples(" and ".join(files), worded(), content).collected(limit)
    if not examples:
        raise UserError(f"the {split} split is empty: {table or source} (data.{split}) has no examples")
    return examples


def _hub_split(data: HubData, wording: Wording, split: str) -> Sequence[Example]:
    """One split of the hub; records without text, which the large corpora have, are skipped and counted."""
    chosen = getattr(data, split)
    skipped: list[str] = []
    records = _hub_records(data, wording, split)

    def notes() -> list[str]:
        what = f"{len(skipped)} records without text were skipped, the first: "
        return [what + skipped[0]] if skipped else []

    def content() -> Any:
        return [records.content(), dict(chosen.fields or {}), asdict(wording)]

    worded = _with_text(records, wording, split, chosen.fields, skipped)
    examples = WordedExamples(str(chosen.path), worded, content, notes).collected(_limit(data, split))
    if not examples:
        raise UserError(
            f"the {split} split is empty: data.{split}.split={chosen.split} of {chosen.path} has no examples"
        )
    return examples


def _stream(data: HubData, wording: Wording) -> ExampleStream:
    """The training split, read anew from its beginning as often as is asked for; records without text are skipped."""
    chosen = data.train
    records = _hub_records(data, wording, "train")

    def opened() -> Iterator[Example]:
        return _with_text(_hub_records(data, wording, "train"), wording, "train", chosen.fields, [])

    content = [records.content(), dict(chosen.fields or {}), asdict(wording)]
    return ExampleStream(f"data.train.split={chosen.split} of {chosen.path}", opened, digest_of(content))


def _hub_records(data: HubData, wording: Wording, split: str) -> HubRecords:
    from warmup.data import hub  # here, since its library takes long to import

    chosen = getattr(data, split)
    _check_fields(chosen.fields or {}, wording, f"data.{split}.fields")
    return hub.read_hub(chosen, f"data.{split}", data.streaming)


def _with_text(
    records: HubRecords, wording: Wording, split: str, fields: Mapping[str, str] | None, skipped: list[str]
) -> Iterator[Example]:
    """The worded records; `skipped` grows by where each is that has no text."""
    for row in records:
        try:
            example = _word(row, wording, fields or {}, f"data.{split}.fields")
        except EmptyText:
            skipped.append(row[1])
        else:
            yield example


def _check_fields(fields: Mapping[str, str], wording: Wording, key: str) -> None:
    known = wording.record_fields()
    for name in fields:
        if name not in known:
            raise UserError(
                f"{key}.{name}: the task has no such field; allowed: {listing(known)}{nearest(name, known)}"
            )


def _word(
    row: LocatedRecord, wording: Wording, fields: Mapping[str, str], key: str, with_target: bool = True
) -> Example:
    """Word one record after taking each field from the column that `fields` names."""
    record, where = row
    used = wording.record_fields(with_target)
    values = {
        name: _column_value(record, fields[name], key, where) if name in fields else record.get(name) for name in used
    }
    for name in used:
        if name not in fields and name not in record:
            raise missing_field(name, record, where, key)
    return wording.example(values, where, with_target)


def _column_value(record: Mapping[str, Any], column: str, key: str, where: str) -> Any:
    """The value of a column; dots reach into nested ones ("translation.de")."""
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            inside = list(value) if isinstance(value, Mapping) else []
            raise UserError(
                f"{where}: no column '{column}', as {key} has it, only {listing(inside)}{nearest(part, inside)}"
            )
        value = value[part]
    return value
