"""The command as a user types it: stages, folders, resume, sweeps, launchers, and bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from warmup.reporting.overview import complete_overview
from warmup.runs.file_names import RunFile

ROOT = Path(__file__).parents[1]
TINY = [
    "data.train_size=48",
    "data.validation_size=8",
    "data.test_size=10",
    "trainer.max_steps=4",
    "trainer.evaluate_every=2",
    "trainer.logging_steps=1",
    "task.max_target_tokens=16",
]

# What a run leaves with other metrics, alone, when it fails, or with a logger.
ELSEWHERE = {"segment_scores.json", "comparison.md", "comparison.tex", "comparison.csv", "analysis.json", "analysis.md"}
ELSEWHERE |= {
    "report.html",
    "error.txt",
    "skipped_steps.json",
    "wandb",
    "tensorboard",
    "profile.txt",
    "profile_trace.json",
}


def command(
    *words: str, program: tuple[str, ...] = (sys.executable,), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run scripts/train.py from the repository's root, offline."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    env.pop("HYDRA_FULL_ERROR", None)
    env.update(environment)
    return subprocess.run(
        [*program, "scripts/train.py", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The single line on standard error of a command that must have failed."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert "Traceback" not in result.stdout
    return lines[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished multirun of both methods on translation, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    result = command("-m", *TINY, "method=sft,warmup", f"hydra.sweep.dir={folder}")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout


def run_of(sweep: tuple[Path, str], method: str) -> Path:
    return next(sweep[0].glob(f"translation_tiny_t5_{method}_seed1_*"))


def test_a_multirun_ends_with_its_table_and_leaves_whole_folders(sweep: tuple[Path, str]) -> None:
    folder, printed = sweep
    assert re.search(r"translation en-qtz +BLEU +\d+\.\d\d +\d+\.\d\d", printed)
    assert "What to try next" in printed
    beginning = (
        r"warmup trains tiny_t5 on translation en-qtz, data toy\n(?s:.*?)\n?48 examples; [\d,]+ parameters; cpu, "
    )
    assert re.search(beginning, printed), printed[:500]
    assert "| translation en-qtz | tiny\\_t5 | BLEU |" in (folder / "comparison.md").read_text().replace(
        "tiny_t5", "tiny\\_t5"
    )
    for method in ("sft", "warmup"):
        run = run_of(sweep, method)
        names = {file.value for file in RunFile} - ELSEWHERE - ({"warmup_analysis.json"} if method == "sft" else set())
        assert names == {path.name for path in run.iterdir()}
        modes = {oct(path.stat().st_mode & 0o777) for path in run.rglob("*") if path.is_file()}
        assert len(modes) == 1, modes
        record = json.loads((run / "metrics.json").read_text())
        assert set(record["scores"]) == {"bleu", "chrf"}
        assert "tok:13a" in record["scores"]["bleu"]["signature"]
        assert record["training_seconds"] > 0 and record["decoding_seconds"] > 0
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        assert [set(line) for line in lines] == [{"source", "warmup", "prediction", "reference"}] * 10
        assert all((line["warmup"] is None) == (method == "sft") for line in lines)
        assert json.loads((run / "environment.json").read_text())["packages"]["torch"].startswith("2.")
        assert json.loads((run / "model" / "warmup_config.json").read_text())["method"] == method
        assert "${" not in (run / "config.yaml").read_text()


def test_both_methods_answer_the_same_questions_in_the_same_order(sweep: tuple[Path, str]) -> None:
    sources = [
        [json.loads(line)["source"] for line in (run_of(sweep, method) / "predictions.jsonl").read_text().splitlines()]
        for method in ("sft", "warmup")
    ]
    assert sources[0] == sources[1]


def test_a_saved_checkpoint_scores_as_it_did(sweep: tuple[Path, str], tmp_path: Path) -> None:
    run = run_of(sweep, "warmup")
    result = command("run=evaluate", f"checkpoint={run}/model", *TINY, f"hydra.run.dir={tmp_path}/again")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["scores"] == json.loads((run / "metrics.json").read_text())["scores"]
    assert (tmp_path / "again" / "predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()
    assert {"checkpoint", "test_examples"} == json.loads((tmp_path / "again" / "inputs.json").read_text()).keys()


def test_predict_answers_a_file_without_references(sweep: tuple[Path, str], tmp_path: Path) -> None:
    inputs = tmp_path / "questions.txt"
    inputs.write_text("the cats help a dog\n<script>alert(1)</script>\n", encoding="utf-8")
    run = run_of(sweep, "warmup")
    result = command("run=predict", f"checkpoint={run}/model", f"inputs={inputs}", f"hydra.run.dir={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["the cats help a dog", "<script>alert(1)</script>"]
    assert all(set(line) == {"source", "warmup", "prediction"} for line in lines)
    inputs.write_text("the cats help\n", encoding="utf-8")
    words = ["run=predict", f"checkpoint={run}/model", f"inputs={inputs}", f"hydra.run.dir={tmp_path}/out"]
    assert "another 'inputs'" in error_line(command(*words))
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 2


def test_tables_compare_any_folder_of_runs(sweep: tuple[Path, str], tmp_path: Path) -> None:
    result = command("run=tables", f"runs={sweep[0]}", f"hydra.run.dir={tmp_path}/tables")
    assert result.returncode == 0, result.stderr
    table = [line for line in result.stdout.splitlines() if "BLEU" in line]
    assert table and table[0] in sweep[1]
    assert {"comparison.md", "learning_curves.png", "warmup_gauges.png"} <= {
        p.name for p in (tmp_path / "tables").iterdir()
    }


def test_a_finished_run_is_left_alone_and_another_one_refused(sweep: tuple[Path, str]) -> None:
    run = run_of(sweep, "sft")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    same = command(*TINY, "method=sft", f"hydra.run.dir={run}")
    assert same.returncode == 0 and "is finished already" in same.stdout
    assert "another 'seed'" in error_line(command(*TINY, "method=sft", "seed=2", f"hydra.run.dir={run}"))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not (run / "error.txt").exists()


def test_what_a_finished_run_lacks_is_made(sweep: tuple[Path, str], tmp_path: Path) -> None:
    """As if it had been killed after metrics.json, and again after its tables."""
    run = tmp_path / "run"
    shutil.copytree(run_of(sweep, "warmup"), run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    result = command(*TINY, "method=warmup", f"hydra.run.dir={run}")
    assert result.returncode == 0 and "is finished already" in result.stdout, result.stderr
    made = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path not in before}
    assert made.keys() >= {"comparison.md", "comparison.csv", "learning_curves.png", "warmup_gauges.svg", "report.html"}
    assert made.keys() >= {"analysis.json", "analysis.md", "comparison.tex"}
    for name in ("report.html", "warmup_gauges.svg", "analysis.md", "comparison.csv"):
        (run / name).unlink()
        complete_overview(run)
        assert (run / name).read_bytes() == made[name], name
    assert before == {path: path.stat().st_mtime_ns for path in before}
    whole = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    complete_overview(run)
    assert whole == {path: path.stat().st_mtime_ns for path in run.iterdir()}


def test_a_finished_run_whose_input_changed_is_another_run(tmp_path: Path) -> None:
    for name in ("answers", "references"):
        (tmp_path / f"{name}.txt").write_text("the cat sat\non the mat\n")
    files = [f"predictions={tmp_path}/answers.txt", f"references={tmp_path}/references.txt"]
    words = ["run=score", "task.metrics=[bleu]", *files, f"hydra.run.dir={tmp_path}/run"]
    first = command(*words)
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    (tmp_path / "references.txt").write_text("the cat sat\non a mat\n")
    assert "holds a run with another 'references'" in error_line(command(*words))
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    assert not (tmp_path / "run" / "error.txt").exists()


def test_a_run_goes_on_with_the_examples_it_began_with_alone(sweep: tuple[Path, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_of(sweep, "sft"), run)
    (run / "metrics.json").unlink()
    recorded = json.loads((run / "inputs.json").read_text())
    assert recorded.keys() == {"train_examples", "validation_examples", "test_examples"}
    (run / "inputs.json").write_text(json.dumps({**recorded, "validation_examples": "0" * 64}))
    message = error_line(command(*TINY, "method=sft", f"hydra.run.dir={run}"))
    assert "another 'validation_examples'" in message and not (run / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["seed=1,2", "hydra.sweep.subdir=same"], "jobs 0 (seed=1) and 1 (seed=2) would both write into {}/same"),
        (["method=sft", "seed=1,1"], "seed=1) are the same run twice: give each value once"),
        (["seed=1,2", "hydra.run.dir=somewhere"], "the folder of a multirun is hydra.sweep.dir=FOLDER"),
    ],
)
def test_jobs_that_would_lose_a_run_are_refused_before_the_first(words: list[str], part: str, tmp_path: Path) -> None:
    result = command("-m", *TINY, *words, f"hydra.sweep.dir={tmp_path}/s")
    assert part.format(f"{tmp_path}/s") in error_line(result)
    assert not (tmp_path / "s").exists()


def test_a_sweep_over_other_runs_is_refused_before_it_starts(sweep: tuple[Path, str]) -> None:
    result = command(*TINY, "trainer.logging_steps=2", "-m", "method=sft,warmup", f"hydra.sweep.dir={sweep[0]}")
    assert "another 'trainer.logging_steps'" in error_line(result)
    assert not list(sweep[0].glob("*/error.txt"))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "is not empty (model)" in error_line(command(*TINY, f"hydra.run.dir={tmp_path}"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_experiment_that_is_a_sweep_says_so_without_m(tmp_path: Path) -> None:
    result = command(*TINY, "experiment=demo", "method=sft", "run=train", f"hydra.run.dir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    assert "several values of task with -m" in result.stdout


def test_a_killed_command_goes_on_to_the_same_result(sweep: tuple[Path, str], tmp_path: Path) -> None:
    whole = run_of(sweep, "warmup")
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    for name in ("metrics.json", "predictions.jsonl", "history.json", "training.json", "model"):
        path = killed / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkpoints = sorted((killed / "checkpoints").iterdir())
    if len(checkpoints) > 1:
        shutil.rmtree(checkpoints[-1])
    result = command(*TINY, "method=warmup", f"hydra.run.dir={killed}")
    assert result.returncode == 0, result.stderr
    assert "resuming from" in result.stdout
    found, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (killed, whole))
    assert found["scores"] == expected["scores"]
    assert (killed / "predictions.jsonl").read_text() == (whole / "predictions.jsonl").read_text()


def test_a_wrong_job_is_found_before_the_first_one_starts(tmp_path: Path) -> None:
    result = command("-m", *TINY, "method.num_samples=2,0", f"hydra.sweep.dir={tmp_path}/s")
    assert result.returncode == 2
    assert "method.num_samples is 0; allowed: 1 to 256" in result.stderr
    assert not list((tmp_path / "s").glob("*/config.yaml"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["modle=tiny_t5"], "did you mean 'model'?"),
        (["--modle"], "there is no option '--modle'"),
        (["method.num_samples=0"], "method.num_samples is 0; allowed: 1 to 256"),
        (["model=t5_small"], "model=tiny_t5"),
        (["data=hub", "task=summarization"], "data=local data.train=FILE"),
        (["run=evaluate", "checkpoint=tests"], "is not a model checkpoint"),
        (["hydra.run.dir=/proc/nowhere/run"], "/proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(words: list[str], part: str, tmp_path: Path) -> None:
    extra = [] if any(word.startswith("hydra.run.dir") for word in words) else [f"hydra.run.dir={tmp_path}/run"]
    assert part in error_line(command(*words, *extra))
    assert not (tmp_path / "run").exists()


def test_a_selection_metric_without_a_score_is_found_before_the_model_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    texts = [f'{{"document": "Школа номер {i} закрыта", "summary": "Школа {i} закрыта"}}' for i in range(20)]
    (tmp_path / "russian.jsonl").write_text("\n".join(texts))
    words = ["task=summarization", "data=local", f"data.train={tmp_path}/russian.jsonl"]
    line = error_line(command(*words, f"model.pretrained={tmp_path}/empty", f"hydra.run.dir={tmp_path}/run"))
    assert "task.selection_metric is 'rougeL', which has no score here" in line
    assert line.endswith("allowed: 'task.metrics=[chrf]' task.selection_metric=chrf")


def test_the_traceback_is_there_for_who_asks(tmp_path: Path) -> None:
    result = command("method.num_samples=0", f"hydra.run.dir={tmp_path}/run", HYDRA_FULL_ERROR="1")
    assert result.returncode != 0 and "Traceback" in result.stderr


def test_torchrun_runs_unchanged_and_writes_one_folder(tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    result = command(*TINY, "trainer.batch_size=4", "device=cpu", f"hydra.run.dir={tmp_path}/two", program=launcher)
    assert result.returncode == 0, result.stderr[-3000:]
    one = command(*TINY, "trainer.batch_size=8", "device=cpu", "method=sft", f"hydra.run.dir={tmp_path}/one")
    two = command(
        *TINY, "trainer.batch_size=4", "device=cpu", "method=sft", f"hydra.run.dir={tmp_path}/sft2", program=launcher
    )
    assert one.returncode == two.returncode == 0, two.stderr[-3000:]
    weights = [torch_weights(tmp_path / name / "model") for name in ("one", "sft2")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)
    assert len((tmp_path / "two" / "predictions.jsonl").read_text().splitlines()) == 10


def torch_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_wandb_runs_offline_and_leaves_no_key_behind(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    result = command(
        *TINY,
        "method=sft",
        "logger=wandb",
        "logger.mode=offline",
        f"hydra.run.dir={tmp_path}/run",
        WANDB_API_KEY=secret,
    )
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_help_may_be_read_in_part() -> None:
    """`--help | head -1`: what nobody reads any more is no error."""
    with subprocess.Popen(
        [sys.executable, "scripts/train.py", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_what_is_asked_before_a_run_imports_nothing_heavy(words: list[str]) -> None:
    heavy = ["torch", "transformers", "datasets", "peft", "matplotlib", "sklearn", "pandas", "wandb"]
    program = (
        "import sys; from warmup.__main__ import main\n"
        f"sys.argv = ['train.py', *{words}]\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr


def test_the_stages_import_only_what_they_use() -> None:
    seldom = ["datasets", "peft", "matplotlib", "scipy", "sklearn", "pandas", "wandb"]
    program = f"import sys, warmup.run; print([name for name in {seldom} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
