"""Which runs are seeds or repeats of one experiment: everything in their configurations counts, but a short list."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.reporting.conftest import Write
from warmup.command_line import prepare
from warmup.config.groups import CONF
from warmup.reporting.tables.layout import report_on
from warmup.reporting.tables.paper import PAIRS
from warmup.runs.finding import Run, find_runs, group_by, newest_runs

# Another value of these changes no score, or has a column of its own in the record.
NOT_COMPARED = {"runs", "inputs", "predictions", "references", "sources", "device", "seed"}
NOT_COMPARED |= {"evaluation.batch_size", "trainer.logging_steps", "trainer.keep_checkpoints"}
NOT_COMPARED |= {"evaluation.substituted_examples", "push_to_hub", "trainer.profile_steps"}
NOT_COMPARED |= {"model.name", "method.name", "trainer.arguments.torch_empty_cache_steps"}
NEUTRAL_GROUPS = ("logger.", "trainer.arguments.dataloader_", "trainer.arguments.ddp_")
STAGE = {"run", "checkpoint"}  # decide how the others are read


def composed(*overrides: str) -> dict[str, Any]:
    prepare()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    return dict(config)


def leaves(node: dict[str, Any], *path: str) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *path, key)
        else:
            yield (*path, key)


def changed(config: dict[str, Any], *path: str, value: Any = "something else") -> dict[str, Any]:
    config = deepcopy(config)
    part = config
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return config


def experiments(runs: Sequence[Run]) -> int:
    """How many there are, warmup's variants among them, by what tables do with `runs`."""
    kept, _ = newest_runs(runs)
    return len([variant for _, same in group_by(kept, "experiment") for variant in group_by(same, "variant")])


def details(folder: Path) -> list[str]:
    return [line.row.detail for line in report_on(find_runs([folder])).tables[0].lines]


@pytest.mark.parametrize("overrides", [[], ["data=hub", "task=logiqa", "model=scratch_llama"]])
def test_every_other_value_is_another_experiment(write_run: Write, tmp_path: Path, overrides: list[str]) -> None:
    config = composed("method=warmup", *overrides)
    write_run("warmup", bleu=10.0, config=config)
    (run,) = find_runs([tmp_path]).runs
    for path in set(leaves(config)) - {(key,) for key in STAGE}:
        other = dataclasses.replace(run, config=changed(config, *path), finished=run.finished + 1)
        key = ".".join(path)
        same = key in NOT_COMPARED or key.startswith(NEUTRAL_GROUPS)
        assert experiments([run, other]) == (1 if same else 2), path


def test_two_presets_are_no_repeats_though_nothing_was_overridden(write_run: Write, tmp_path: Path) -> None:
    """2,000 steps from nothing and one epoch from a trained model, as experiment=multi30k and multi30k_epoch."""
    first, second = composed("experiment=multi30k"), composed("experiment=multi30k_epoch")
    for config, bleu in ((first, 20.0), (second, 30.0)):
        write_run("sft", bleu=bleu, config=changed(config, "method", value={"name": "sft"}))
        write_run("warmup", bleu=bleu + 1, config=config)
    report = report_on(find_runs([tmp_path]))
    assert [line.row.difference for line in report.tables[0].lines] == [1.0, 1.0]
    assert not any("Repeated" in note for note in report.notes)
    assert sorted(details(tmp_path)) == ["A", "B"]
    words = sorted(report.tables[0].legend, key=lambda line: line.partition("max_steps")[2])
    assert "max_steps -1" in words[0] and "epochs 1" in words[0] and "max_steps 2000" in words[1]
    assert "layers" not in words[0]  # both have as many


def test_seeds_and_repeats_of_one_configuration_are_found(write_run: Write, tmp_path: Path) -> None:
    config = composed()
    for seed in (1, 2, 2):
        write_run("warmup", seed, 10.0 + seed, config=changed(config, "seed", value=seed))
    report = report_on(find_runs([tmp_path]))
    (line,) = report.tables[0].lines
    assert line.row.warmup and line.row.warmup.values == {1: 11.0, 2: 12.0} and line.row.detail == ""
    assert sum("Repeated" in note for note in report.notes) == 1


def write_inputs(run: Path, **digests: str) -> None:
    (run / "inputs.json").write_text(json.dumps(digests))


def test_other_training_data_under_one_name_is_another_experiment(write_run: Write, tmp_path: Path) -> None:
    for train in ("a" * 64, "b" * 64):
        write_inputs(write_run("sft", bleu=10.0, config=composed()), train_examples=train, test_examples="c" * 64)
    assert details(tmp_path) == [f"train_examples {'a' * 12}", f"train_examples {'b' * 12}"]


def test_the_same_data_in_another_place_is_the_same_experiment(write_run: Write, tmp_path: Path) -> None:
    config = composed("data=local", "task=translation_de_en")
    for method, folder in (("sft", "here"), ("warmup", "there")):
        moved = changed(config, "data", "train", value=f"/{folder}/train.tsv")
        write_inputs(write_run(method, bleu=10.0, data=folder, config=moved), train_examples="a", test_examples="b")
    assert details(tmp_path) == [""]
    (tmp_path / "runs" / "1" / "inputs.json").unlink()  # now only the names are there to go by
    legend = report_on(find_runs([tmp_path])).tables[0].legend
    assert legend == ["A: data here, train /here/train.tsv", "B: data there, train /there/train.tsv"]


def test_an_evaluation_is_compared_by_what_it_reads(write_run: Write, tmp_path: Path) -> None:
    """Its method.* and trainer.* say nothing about the checkpoint; other weights under the same name are told apart."""
    config = composed("run=evaluate", "checkpoint=somewhere/model")
    other = changed(config, "trainer", "max_steps", value=7)
    for digest, values in (("a", config), ("a", other), ("b", config)):
        run = write_run("warmup", bleu=10.0, model="somewhere/model", config=values)
        write_inputs(run, checkpoint=digest, test_examples="t")
    runs = find_runs([tmp_path]).runs
    assert experiments(runs[:2]) == 1 and experiments(runs) == 2
    assert {run.num_samples for run in runs} == {None}


def test_a_published_model_as_it_is_is_no_seed_of_one_that_was_trained(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, config=composed("method=sft", "model=t5_small"))
    write_run("sft", 2, 20.0, config=composed("method=sft", "model=t5_small", "run=evaluate"))
    assert experiments(find_runs([tmp_path]).runs) == 2


def test_an_automatic_precision_is_what_the_device_made_of_it(write_run: Write, tmp_path: Path) -> None:
    for asked, became in (("auto", "float32"), ("auto", "bfloat16"), ("auto", "bfloat16"), ("float32", "float32")):
        config = changed(composed(), "trainer", "precision", value=asked)
        (write_run("sft", bleu=10.0, config=config) / "environment.json").write_text(json.dumps({"precision": became}))
    assert sorted(details(tmp_path)) == ["precision bfloat16", "precision float32"]


def test_the_papers_presets_fill_one_table(write_run: Write, tmp_path: Path) -> None:
    """Pairs differ in languages and data by design; another number of steps makes a table of its own."""
    for steps, gain in ((20000, 1.0), (10, 2.0)):
        for pair in PAIRS:
            config = composed(f"paper=translation_{pair.replace('-', '_')}", f"trainer.max_steps={steps}")
            names = {"task": f"translation {pair}", "data": "haoranxu/FLORES-200", "model": "mt5_base"}
            for method, bleu in (("sft", 20.0), ("warmup", 20.0 + gain)):
                own = config if method == "warmup" else changed(config, "method", value={"name": "sft"})
                run = write_run(method, bleu=bleu, **names, config=own)
                write_inputs(run, train_examples=pair, test_examples=f"{pair} test")
    tables = report_on(find_runs([tmp_path])).tables
    assert [table.title.rpartition(" (")[2] for table in tables] == [
        "trainer.max_steps 10)",
        "trainer.max_steps 20000)",
    ]
    assert [table.blocks[0][-1].row.difference for table in tables] == pytest.approx([2.0, 1.0])


def test_two_experiments_that_could_be_one_row_of_the_paper_are_none(write_run: Write, tmp_path: Path) -> None:
    names = {"task": "translation de-en", "data": "haoranxu/FLORES-200", "model": "mt5_base"}
    for path, bleu in (("wmt/wmt14", 10.0), ("wmt/wmt16", 20.0)):
        config = composed("paper=translation_de_en", f"data.train.path={path}")
        write_run("sft", bleu=bleu, **names, config=config)
    (table,) = report_on(find_runs([tmp_path])).tables
    assert not table.of_paper
    assert [(line.row.detail, line.row.sft and line.row.sft.mean) for line in table.lines] == [
        ("path wmt/wmt14", 10.0),
        ("path wmt/wmt16", 20.0),
    ]
