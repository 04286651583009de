"""The pages: links lead somewhere, and the files and functions that they name are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("conf", "scripts", "tests", "warmup")
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".css", ".js", ".py", ".yaml") and path != Path(__file__)
]
STEP = re.compile(r"# (\w+/\w+\.py): ([\w.]+)$", re.MULTILINE)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors_of(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors_of(text_of(target)), f"{link}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_that_a_page_names_are_there(path: Path) -> None:
    code = re.findall(r"`([^`\n]+)`", text_of(path))
    files = [word for word in code if re.fullmatch(r"(warmup|tests|conf|scripts|docs)/([\w./]+\.\w+|[\w/]*/)", word)]
    assert [file for file in files if not (ROOT / file).exists() and "NAME" not in file] == []


def test_every_line_of_the_step_names_a_function_that_there_is() -> None:
    opening = text_of(ROOT / "docs" / "method.md").partition("\n## ")[0]
    (block,) = re.findall(r"```\w*\n(.*?)```", opening, re.DOTALL)
    lines = block.splitlines()
    assert len(STEP.findall(block)) == len(lines) == 15
    for file, name in STEP.findall(block):
        found: ast.AST = ast.parse(text_of(ROOT / "warmup" / file))
        for part in name.split("."):
            inside = [node for node in ast.iter_child_nodes(found) if getattr(node, "name", None) == part]
            assert inside, f"warmup/{file} has no {name}"
            found = inside[0]


def test_nothing_points_to_a_page_that_a_reader_cannot_open() -> None:
    """Notes that preceded the code were called the design; docs/method.md has what they said."""
    pointer = re.compile(r"\b(?:the|this|our) design\b|\bdesign(?:'s\b|\.md\b|, section\b)", re.IGNORECASE)
    assert [named(path) for path in [*PAGES, *SOURCES] if pointer.search(text_of(path))] == []
