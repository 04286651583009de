"""A job's folder is named by what it is, and what a sweep is about is known before its first job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode

from tests.sweeps.planning import planned
from warmup.errors import UserError
from warmup.runs.file_names import RunFile
from warmup.runs.lock import writing
from warmup.runs.records import Failure, RunConfiguration
from warmup.runs.status import Standing
from warmup.sweeps.summary import together

pytestmark = pytest.mark.usefixtures("hydra")


def names(*words: str) -> list[str]:
    return [job.subdir for job in planned(*words)]


def test_a_job_is_named_by_what_it_is_and_not_by_its_place() -> None:
    three = names("method=sft", "seed=1,2,3")
    assert three[0].startswith("translation_tiny_t5_sft_seed1_")
    assert names("method=sft", "seed=0,3,2,1,4")[1:4] == three[::-1]
    assert names("seed=2", "method=warmup,sft")[1] == three[1]


def test_the_name_changes_with_what_changes_numbers_alone() -> None:
    (name,) = names("seed=1")
    neutral = ["device=cpu", "logger.project=x", "trainer.keep_checkpoints=3", "evaluation.batch_size=3", "run=train"]
    assert names("seed=1", *neutral) == [name]
    changed = ["trainer.learning_rate=0.5", "model.width=32", "data.train_size=50", "task.metrics=[bleu]"]
    found = [names("seed=1", word)[0] for word in changed]
    assert len({name, *found}) == 5
    assert all(other.startswith("translation_tiny_t5_warmup_seed1_") for other in found)


def test_what_a_stage_is_about_tells_its_jobs_apart(tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("a line\n")
    found = names("run=predict", "checkpoint=some/model", f"inputs={files[0]},{files[1]}")
    assert len(set(found)) == 2


def test_jobs_of_one_folder_are_refused() -> None:
    with pytest.raises(UserError, match=r"jobs 0 \(trainer.keep_checkpoints=1\) and 1 .* would both write into"):
        planned("trainer.keep_checkpoints=1,2")
    with pytest.raises(UserError, match="the same run twice: give each value once"):
        planned("seed=1,1")
    own = "hydra.sweep.subdir='${hydra:job.num}_${trainer.keep_checkpoints}'"
    assert names("trainer.keep_checkpoints=1,2", own) == ["0_1", "1_2"]


def test_every_syntax_of_a_sweep() -> None:
    assert len(names("task=glob(babi_*)", "data=toy", "method=sft", "run=tables", "runs=conf")) == 4
    assert [job.config.seed for job in planned("seed=range(3,6)")] == [3, 4, 5]
    assert [job.config.seed for job in planned("seed=choice(7,5)")] == [7, 5]
    assert sorted(job.config.seed for job in planned("seed=shuffle(1,2,3)")) == [1, 2, 3]
    assert names("seed=1,2", "hydra.sweep.subdir=${hydra.job.override_dirname}") == ["seed=1", "seed=2"]
    assert names("experiment=demo", "task=logiqa")[0].startswith("logiqa_tiny_t5_sft")


def test_a_folder_with_every_letter_is_found_again_by_the_launcher(tmp_path: Path) -> None:
    (job,) = planned("seed=1", r"hydra.sweep.subdir='it\'s a=1,b={2}'")
    assert job.subdir == "it's a=1,b={2}"
    loader = GlobalHydra.instance().config_loader()
    assert loader.load_configuration("config", job.launched, RunMode.RUN).hydra.sweep.subdir == job.subdir


def test_no_value_and_no_grid_are_a_line_each() -> None:
    with pytest.raises(UserError, match=r"'seed=range\(0,0\)' names no value"):
        planned("seed=range(0,0)")
    with pytest.raises((UserError, HydraException), match="interval"):
        planned("trainer.learning_rate=interval(0,1)")


def test_a_sweep_without_a_name_has_the_same_folder_at_every_call() -> None:
    assert planned("seed=1")[0].folder.parent == Path("outputs/sweep")
    assert planned("experiment=demo", "task=logiqa", "method=sft")[0].folder.parent == Path("outputs/sweep_demo")


def test_how_a_job_stands_is_read_off_its_folder(tmp_path: Path) -> None:
    (job,) = planned("seed=1", f"hydra.sweep.dir={tmp_path}")
    assert job.standing == Standing.WAITING
    job.folder.mkdir()
    RunConfiguration.of(job.composed).write(job.folder)
    assert job.standing == Standing.STOPPED
    with writing(job.folder):
        assert job.standing == Standing.RUNNING
    Failure("no space").write(job.folder)
    assert job.standing == Standing.FAILED
    (job.folder / RunFile.METRICS).write_text("{}")
    assert job.standing == Standing.DONE
    with pytest.raises(UserError, match="another 'trainer.logging_steps'"):
        planned("seed=1", "trainer.logging_steps=3", f"hydra.sweep.dir={tmp_path}")[0].standing  # noqa: B018


def test_failed_jobs_are_one_sweep_where_they_are_a_product() -> None:
    jobs = [("a=1", "b=x"), ("a=2", "b=x")]
    assert together(jobs) == ["a=1,2", "b=x"]
    assert together([("a=1", "b=x"), ("a=2", "b=y")]) is None
    assert json.dumps(together([("a=1", "b=x")])) == '["a=1", "b=x"]'
