"""The set-up keeps its promises: packages import, versions agree, the top level stays tidy, CI runs what users run."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NAMED_PACKAGES = "torch, transformers, hydra, omegaconf, datasets, sacrebleu, rouge_score, comet, bert_score, wandb"
FOLDERS = {"conf", "warmup", "scripts", "tests", "outputs", "docs"}
FILES = {"pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md", "LICENSE", "requirements.lock"}


@cache
def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@cache
def _pins() -> dict[str, str]:
    """Each package's locked version; a line that is no exact pin fails here."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [
        re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line) for line in lines if line[:1] not in ("", "#")
    ]
    assert all(pins), "requirements.lock holds a line that is not name==version"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def _declared(*extras: str) -> list[Requirement]:
    optional = _project()["optional-dependencies"]
    return [Requirement(text) for text in sum((optional[extra] for extra in extras), _project()["dependencies"])]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_ten_named_packages_import_together() -> None:
    done = _run(sys.executable, "-c", f"import {NAMED_PACKAGES}")
    assert done.returncode == 0, done.stderr


def test_pip_check_is_clean() -> None:
    done = _run(sys.executable, "-m", "pip", "check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("requirement", _declared("comet", "tensorboard", "mlflow", "dev"), ids=str)
def test_the_lock_pins_every_dependency_within_its_range(requirement: Requirement) -> None:
    pinned = _pins().get(canonicalize_name(requirement.name))
    assert pinned, f"requirements.lock has no pin of {requirement.name}"
    assert pinned in requirement.specifier


def test_torch_is_installed_first_by_the_locked_pin() -> None:
    installs = re.findall(r"pip install (?:--quiet )?(.+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert installs[:2] == [f"torch=={_pins()['torch']}", "-r requirements.lock"]


def test_every_import_is_declared() -> None:
    files = [*(ROOT / "warmup").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    imported = set().union(*(_imports(path) for path in files))
    foreign = imported - sys.stdlib_module_names - {"warmup", "scripts"}
    providers = packages_distributions()
    extras = ("comet", "tensorboard", "mlflow", "optuna", "liger")
    declared = {canonicalize_name(requirement.name) for requirement in _declared(*extras)}
    undeclared = [
        name for name in foreign if not declared & {canonicalize_name(found) for found in providers.get(name, [name])}
    ]
    assert not undeclared


def _imports(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, those inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def test_the_top_level_holds_only_what_belongs_there() -> None:
    try:
        listing = _run("git", "ls-files", "--cached", "--others", "--exclude-standard")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    entries = {line.strip('"').partition("/")[0] for line in listing.stdout.splitlines()}
    assert {entry for entry in entries if not entry.startswith(".")} <= FOLDERS | FILES


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert commands.index("make lint") < commands.index("make test")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_alone_lists_the_targets() -> None:
    done = _run("make", "--no-print-directory")
    assert done.returncode == 0, done.stderr
    for target in ("install", "demo", "test", "lint", "clean"):
        assert f"make {target} " in done.stdout


def test_a_wheel_is_the_whole_program(tmp_path: Path) -> None:
    """Built from the files that are committed, and run away from the repository: its own `conf` is read."""
    source, target = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in ("conf", "warmup"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed = {path.relative_to(target / "warmup") for path in (target / "warmup" / "conf").rglob("*.yaml")}
    assert installed == {path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    shutil.rmtree(source)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    for command in ([str(target / "bin" / "warmup-train")], [sys.executable, "-m", "warmup"]):
        words = [*command, "task=logiqa", "--cfg", "job"]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "name: logiqa" in done.stdout, done.stderr


def test_one_version_of_python_is_asked_for_everywhere() -> None:
    assert _project()["requires-python"].startswith(">=3.11,<3.12")
    for file in ("README.md", "CONTRIBUTING.md", "Makefile"):
        assert "3.12" not in (ROOT / file).read_text(encoding="utf-8"), file
