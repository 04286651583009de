"""`run=tables` as a user types it: several folders, a broken run among them, and what it says of a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.reporting.conftest import Write
from tests.test_train_command import ROOT, command, error_line
from warmup.config.cross_checks import run_folders
from warmup.config.fields import check_value
from warmup.config.schema import Config
from warmup.errors import UserError


def test_the_tables_of_several_folders(write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 5, folder="first/sft")
    write_answers("warmup", 15, folder="second/warmup")
    (write_answers("warmup", 15, seed=2, folder="third/broken") / "metrics.json").write_text("{")
    runs, output = tmp_path / "runs", tmp_path / "tables"
    result = command("run=tables", f"runs=[{runs}/first,'{runs}/*d']", f"hydra.run.dir={output}")
    assert result.returncode == 2 and "third/broken/metrics.json does not hold a run's metrics" in result.stderr
    assert "accuracy  25.00   75.00     +50.00*" in result.stdout
    assert "Left out: " in result.stdout and "third/broken/metrics.json is not JSON" in result.stdout
    names = {path.name for path in output.iterdir()}
    assert names >= {"comparison.md", "comparison.tex", "comparison.csv", "differences.png", "differences.svg"}
    assert all(f"written: {output}/{name}" in result.stdout for name in names - {"train.log"})


def test_comparing_runs_loads_no_model_library(write_answers: Write, tmp_path: Path) -> None:
    for method, right in (("sft", 5), ("warmup", 15)):
        write_answers(method, right, folder=method)
    heavy = ["torch", "transformers", "accelerate", "datasets", "sklearn", "wandb"]
    words = ["train.py", "run=tables", f"runs={tmp_path}/runs", f"hydra.run.dir={tmp_path}/tables"]
    program = f"import sys; from warmup.__main__ import main; sys.argv = {words}; main()\n"
    program += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("report.html\n[]\n"), done.stdout + done.stderr


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    message = error_line(command("run=tables", f"runs={tmp_path}/output", f"hydra.run.dir={tmp_path}/out"))
    assert "runs is" in message and "a list [a,b] or a glob" in message
    assert f"did you mean '{tmp_path}/outputs'?" in message


def test_folders_lists_and_globs(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a3").touch()
    folders = [tmp_path / name for name in ("a1", "a2", "b")]
    assert run_folders(str(tmp_path)) == [tmp_path]
    assert run_folders([f"{tmp_path}/a*", f"{tmp_path}/b"]) == folders
    with pytest.raises(UserError, match="runs is '.*/c\\*'; allowed: a folder"):
        run_folders([f"{tmp_path}/b", f"{tmp_path}/c*"])


@pytest.mark.parametrize("value", [None, 7, [], [1], "", {"a": "b"}])
def test_runs_is_a_folder_or_a_list_of_folders(value: object) -> None:
    with pytest.raises(UserError, match="runs is .*; allowed: a folder, a list of folders"):
        check_value("runs", value, Config.__dataclass_fields__["runs"])
