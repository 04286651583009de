"""The paper's tables: which runs may stand in them, and the averages, checked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.reporting.conftest import Write
from warmup.command_line import FACTS, prepare
from warmup.config.checks import check
from warmup.config.environment import described
from warmup.config.groups import CONF
from warmup.reporting.tables.cells import columns
from warmup.reporting.tables.layout import Table, report_on
from warmup.reporting.tables.paper import PAIRS, paper_table_of
from warmup.runs.finding import find_runs
from warmup.runs.labels import labels_of

XSUM = {"task": "summarization", "data": "EdinburghNLP/xsum", "model": "t5_base"}
ROUGE = {"rouge1": {"value": 40.0, "signature": "rouge"}}


def xsum_config(**changes: Any) -> dict[str, Any]:
    """What the preset's config.yaml says, as far as it matters; dotted keys change it."""
    config: dict[str, Any] = {
        "data": {
            "kind": "hub",
            "max_test_examples": None,
            "train": {"path": "EdinburghNLP/xsum", "split": "train"},
            "test": {"path": "EdinburghNLP/xsum", "split": "test"},
        },
        "model": {"pretrained": "google-t5/t5-base"},
    }
    for key, value in changes.items():
        part: dict[str, Any] = config
        *parents, name = key.split("__")
        for parent in parents:
            part = part[parent]
        part[name] = value
    return config


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONF / "paper").glob("*.yaml")))
def test_every_preset_of_the_paper_is_a_row(write_run: Write, tmp_path: Path, preset: str) -> None:
    """What the presets compose, and would label their runs, is what the tables look for."""
    prepare()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", [f"paper={preset}"])
        cut = compose("config", [f"paper={preset}", "data.max_test_examples=10"])
    labels = labels_of(check(composed, FACTS), described(composed), "sft")
    for name, part in (("whole", composed), ("cut", cut)):
        resolved: Any = OmegaConf.to_container(part, resolve=True)
        write_run(**labels, folder=name, config=resolved)
    found = {run.folder.name: paper_table_of(run) for run in find_runs([tmp_path]).runs}
    table = found["whole"]
    assert table and labels["task"] in table.tasks and found["cut"] is None
    assert table.name == {"logiqa_t5": "logiqa", "logiqa_llama": "decoder_only"}.get(preset, preset.split("_")[0])


def tables(folder: Path) -> dict[str, Table]:
    return {table.name: table for table in report_on(find_runs([folder])).tables}


def write_pairs(write_run: Write, method: str, seed: int, first: float, pairs: list[str] = PAIRS) -> None:
    """FLORES scores of `first`, `first` + 1, ... BLEU."""
    for number, pair in enumerate(pairs):
        write_run(method, seed, first + number, task=f"translation {pair}", data="o/FLORES-200", model="mt5_base")


def test_all_eight_pairs_and_their_average(write_run: Write, tmp_path: Path) -> None:
    for seed, sft, warmup in [(1, 20.0, 21.0), (2, 22.0, 24.0)]:
        write_pairs(write_run, "sft", seed, sft)
        write_pairs(write_run, "warmup", seed, warmup)
    found = tables(tmp_path)
    assert list(found) == ["translation"]
    table = found["translation"]
    rows = ["en-de", "de-en", "en-fr", "fr-en", "en-ru", "ru-en", "en-zh", "zh-en", "average"]  # the paper's order
    assert [[line.labels for line in block] for block in table.blocks] == [
        [(metric, row) for row in rows] for metric in ("BLEU", "COMET", "chrF++")
    ]
    average = table.blocks[0][-1]
    assert average.row.sft and average.row.warmup and average.row.difference == pytest.approx(1.5)
    assert average.row.sft.values == {1: 23.5, 2: 25.5} and average.row.warmup.mean == 26.0
    cells = dict(columns(table))
    assert cells["SFT"][:2] == ["21.00 ± 1.41", "22.00 ± 1.41"] and cells["SFT"][8] == "24.50 ± 1.41"
    assert cells["paper"] == ["—"] * 8 + ["+1.57"] + ["—"] * 8 + ["+1.32"] + ["—"] * 8 + ["+1.60"]
    assert set(cells["SFT"][9:]) == {"—"}  # COMET and chrF++ were not scored


def test_a_missing_pair_leaves_a_gap_and_no_average(write_run: Write, tmp_path: Path) -> None:
    write_pairs(write_run, "sft", 1, 20.0)
    write_pairs(write_run, "warmup", 1, 21.0, PAIRS[:-1])
    cells = dict(columns(tables(tmp_path)["translation"]))
    assert cells["warmup"][:9] == [*(f"{21 + i:.2f}" for i in range(7)), "—", "—"]
    assert cells["SFT"][7:9] == ["27.00", "23.50"] and cells["difference"][7:9] == ["—", "—"]


def test_an_average_is_over_the_seeds_of_all_pairs(write_run: Write, tmp_path: Path) -> None:
    write_pairs(write_run, "sft", 1, 20.0)
    write_pairs(write_run, "sft", 2, 30.0, PAIRS[:4])
    average = tables(tmp_path)["translation"].blocks[0][-1]
    assert average.row.sft and average.row.sft.values == {1: 23.5}


def test_the_other_tables_have_the_papers_gains(write_run: Write, tmp_path: Path) -> None:
    scores = {name: {"value": 40.0, "signature": name} for name in ("accuracy", "macro_f1")}
    write_run("sft", **XSUM, scores=ROUGE, config=xsum_config())
    for model in ("t5_base", "llama_3_2_1b"):
        write_run("sft", task="logiqa", data="jeggers/logiqa2_formatted", model=model, scores=scores)
    found = tables(tmp_path)
    assert list(found) == ["summarization", "logiqa", "decoder_only"]
    gains = {name: [(line.labels, line.paper) for line in table.lines] for name, table in found.items()}
    assert gains["summarization"] == [
        (("ROUGE-1",), 0.45),
        (("ROUGE-2",), 0.32),
        (("ROUGE-L",), 0.36),
        (("BERTScore",), 0.1),
    ]
    assert gains["logiqa"] == [(("macro F1",), 0.84), (("accuracy",), 0.87)]
    assert gains["decoder_only"] == [(("macro F1",), 2.51), (("accuracy",), 1.85)]
    assert all("Paper: the difference that arXiv 2502.12304 reports." in t.caption for t in found.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "toy"},
        {"data": "multi30k"},
        {"data": "xsum"},  # a local folder of that name
        {"model": "t5_small"},
        {"model": "scratch_t5"},
        {"task": "custom"},
        {"split": "validation"},
        {"config": xsum_config(data__kind="local")},
        {"config": xsum_config(data__max_test_examples=100)},
        {"config": xsum_config(data__test__split="test[:100]")},
        {"config": xsum_config(data__train__path="cnn_dailymail")},
        {"config": xsum_config(model__pretrained=None)},  # built fresh, whatever its name
        {"config": xsum_config(model__pretrained="/models/my-t5")},
        {"config": {"data": {"kind": "hub"}}},
        {"config": {**xsum_config(), "run": "evaluate"}},  # the published model as it is
    ],
)
def test_other_runs_are_no_row_of_the_paper(write_run: Write, tmp_path: Path, changes: dict[str, Any]) -> None:
    write_run("sft", **{**XSUM, "config": xsum_config()} | changes, scores=ROUGE)
    assert list(tables(tmp_path)) == ["comparison"]


def test_other_metrics_and_other_runs_stand_in_a_table_of_their_own(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", **XSUM, scores=ROUGE | {"chrf": {"value": 30.0, "signature": "chrf"}}, config=xsum_config())
    write_run("sft", 1, 10.0)
    found = tables(tmp_path)
    assert list(found) == ["summarization", "comparison"]
    assert [line.labels[2] for line in found["comparison"].lines] == ["chrF++", "BLEU"]
    assert found["comparison"].title == "Other runs" and not found["comparison"].of_paper


def test_each_variant_has_its_own_table(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", **XSUM, scores=ROUGE)
    for samples, value in (("4", 41.0), ("8", 42.0)):
        scores = {"rouge1": {"value": value, "signature": "rouge"}}
        write_run("warmup", **XSUM, scores=scores, overrides={"method.num_samples": samples})
    found = tables(tmp_path)
    assert [table.title for table in found.values()] == [
        "Summarization, T5-base: XSum (method.num_samples 4)",
        "Summarization, T5-base: XSum (method.num_samples 8)",
    ]
    assert list(found) == ["summarization", "summarization_2"]
    assert [table.lines[0].row.difference for table in found.values()] == [1.0, 2.0]
