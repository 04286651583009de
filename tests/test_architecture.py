"""The house: rooms import earlier rooms only, and each name, file and function stays within the limits of the guide."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# In the order in which data flows; docs/architecture.md lists the same.
ROOMS = [
    "display",
    "errors",
    "files",
    "manifest",
    "config",
    "data",
    "models",
    "methods",
    "training",
    "answering",
    "metrics",
    "runs",
    "reporting",
    "tracking",
    "studies",
    "overviews",
    "run",
    "command_line",
    "sweeps",
]
MODULES = sorted((ROOT / "warmup").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 350, 50, 6
EVERY_MODULE_HAS = {"log", "main"}
NOT_COUNTED = {"self", "cls", "ctx"}  # what Python or torch passes, not a caller
# The folder, the mode and the overrides of a run reach the stages as arguments: nothing else needs Hydra running.
HYDRA_STATE = re.compile(r"\b(HydraConfig|hydra\._internal)\b")
READS_HYDRA_STATE = {"command_line", "sweeps"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "warmup").with_suffix("").parts[0]


def imported_modules(path: Path) -> Iterator[str]:
    """Everything that a file imports, also inside functions; `from warmup import run` counts as `warmup.run`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def names_at_top(path: Path) -> Iterator[str]:
    """Functions, classes and values that a module defines."""
    for node in tree_of(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


def test_the_rooms_are_those_that_there_are() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__", "__main__"} == set(ROOMS)


def test_the_guide_names_every_room_in_this_order() -> None:
    guide = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = guide.partition("\n    warmup/\n")[2].partition("\n    tests/")[0]
    assert re.findall(r"^      (\w+)(?:/|\.py)  +\w", tree, re.MULTILINE) == ROOMS


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_room_imports_earlier_rooms_only(path: Path) -> None:
    own = room_of(path)
    for module in imported_modules(path):
        package, _, rest = module.partition(".")
        assert package not in ("scripts", "tests"), f"{named(path)} imports {module}"
        room = rest.partition(".")[0]
        if package == "warmup" and room in ROOMS and own in ROOMS:
            assert ROOMS.index(room) <= ROOMS.index(own), f"{own} imports {module}, of a later room"


def test_no_modules_import_each_other() -> None:
    """Nor in a circle: what two modules need of each other belongs into a third, or into one of them."""
    module_of = {named(path).removesuffix(".py").replace("/", "."): path for path in MODULES}
    graph = {
        name: {part for module in imported_modules(path) if (part := _module(module, module_of)) not in (None, name)}
        for name, path in module_of.items()
    }
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def _module(imported: str, module_of: dict[str, Path]) -> str | None:
    """The module that `imported` is, or is a name of."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in module_of), None)


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *TESTS], ids=named)
def test_imports_say_the_room(path: Path) -> None:
    relative = [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"relative imports hide the room: lines {relative}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_the_command_line_and_its_sweeps_read_hydras_state(path: Path) -> None:
    found = HYDRA_STATE.findall(path.read_text(encoding="utf-8"))
    assert not found or room_of(path) in READS_HYDRA_STATE


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=named)
def test_files_functions_and_parameters_stay_within_the_limits(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    for function in functions_of(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= LONGEST_FUNCTION, f"{function.name} has {lines} lines"
        taken = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        names = [argument.arg for argument in taken if argument.arg not in NOT_COUNTED]
        assert len(names) <= MOST_PARAMETERS, f"{function.name} takes {len(names)} parameters"


def test_no_two_things_share_a_name() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for path in [*MODULES, *SCRIPTS]:
        for name in names_at_top(path):
            owners[name].add(named(path))
    shared = {name: sorted(paths) for name, paths in owners.items() if len(paths) > 1 and name not in EVERY_MODULE_HAS}
    assert not shared
