"""`report.html`: one file that opens without a network, with every table, figure and example of a set of runs.

Jinja2 escapes every text where it is put in; the data of the example browser is JSON in blocks that are not
executed. A Content-Security-Policy lets nothing run or load but the page's own script, style and pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from warmup.metrics.registry import score_title
from warmup.reporting.figures.drawing import FIGURE_TITLES
from warmup.reporting.page.analysis_grids import grids
from warmup.reporting.page.browser import browser_data
from warmup.reporting.page.configuration import compare_configurations
from warmup.reporting.page.findings import findings
from warmup.reporting.tables.cells import columns, verdict
from warmup.reporting.tables.layout import NO_VALUE, NOTHING, Report, Table
from warmup.runs.finding import Run
from warmup.runs.metrics_records import METHOD_NAMES
from warmup.runs.paired_examples import PairedExamples, reversed_gains

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # what HTML and UTF-8 cannot hold
_COLOURS = {"better": "up", "worse": "down"}


def page(
    report: Report,
    runs: Sequence[Run],
    figures: Sequence[Path],
    analyses: Sequence[dict[str, Any]],
    examples: Sequence[PairedExamples],
    failed: int = 0,
) -> str:
    """The whole page as HTML.

    Args:
        report: the tables and notes.
        runs: the finished ones; their configurations are compared.
        figures: PNG or SVG files; of two that differ in that alone the SVG is shown.
        analyses: of `warmup_statistics.analyse`.
        examples: what the browser shows, in this order.
        failed: how many runs failed.
    """
    style, script = (
        files("warmup.reporting.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    policy = f"default-src 'none'; img-src data:; style-src {_policy_hash(style)}; script-src {_policy_hash(script)}"
    content = {
        "tables": [_shown_table(table) for table in report.tables],
        "figures": _pictures(figures),
        "grids": grids(analyses),
        "compared": compare_configurations(runs),
        "browser": browser_data(examples) if examples else {},
    }
    titles = [("tables", "Tables"), ("figures", "Figures"), ("analysis", "Warmup analysis")]
    titles += [("configuration", "Configuration"), ("browser", "Examples")]
    there = [True, *(bool(content[part]) for part in ("figures", "grids", "compared", "browser"))]
    return (
        _page_environment()
        .get_template("page.html.jinja")
        .render(
            content,
            sections=[section for section, present in zip(titles, there, strict=True) if present],
            policy=f"{policy}; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            script=Markup(script),
            counts=_counts(runs, failed),
            findings=findings(report),
            notes=report.notes,
            signatures=[(score_title(metric), found) for metric, found in report.signatures.items()],
            reversed_gains=reversed_gains(paired.score for paired in examples),
            nothing=NOTHING,
            no_value=NO_VALUE,
        )
    )


def _page_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("warmup.reporting.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_control,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.policies["json.dumps_function"] = _json_text
    return environment


def _without_control(value: Any) -> Any:
    return _CONTROL.sub("\ufffd", value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str) -> Markup:
    """Escaped text that a line may be broken in after each `_` and `/`, as those of long run names."""
    return Markup(re.sub("(?<=[_/])", "<wbr>", str(escape(_without_control(text)))))


def _json_text(value: Any, **_: Any) -> str:
    """JSON without a line break of JavaScript's; Jinja2's `tojson` escapes what could end its script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = _CONTROL.sub("\ufffd", text)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _policy_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _counts(runs: Sequence[Run], failed: int) -> str:
    numbers = {method: sum(run.method == method for run in runs) for method in METHOD_NAMES}
    shown = {method: number for method, number in numbers.items() if number or method != "pause"}
    parts = [f"{number} {METHOD_NAMES[method]} run{'' if number == 1 else 's'}" for method, number in shown.items()]
    return ", ".join([*parts, *([f"{failed} failed"] if failed else [])]) + "."


def _shown_table(table: Table) -> dict[str, Any]:
    """What the template reads of a table."""
    shown, number = columns(table, p_values=True), 0
    blocks = []
    for block in table.blocks:
        rows = []
        for line in block:
            texts = {name: cells[number] for name, cells in shown}
            cells = [
                {"text": text, "colour": _COLOURS.get(verdict(text, line), "") if name == "difference" else ""}
                for name, text in texts.items()
            ]
            rows.append({"labels": line.labels, "cells": cells})
            number += 1
        blocks.append(rows)
    return {
        "title": table.title,
        "label_names": table.label_names,
        "columns": [name for name, _ in shown],
        "blocks": blocks,
        "legend": table.legend,
        "caption": " ".join(table.caption),
    }


def _pictures(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Title and data address of each figure, in the order of `paths`."""
    chosen = {path.stem: path for path in sorted(paths, key=lambda path: path.suffix == ".svg")}
    shown = []
    for stem in dict.fromkeys(path.stem for path in paths):
        kind = {".svg": "svg+xml", ".png": "png"}[chosen[stem].suffix]
        data = base64.b64encode(chosen[stem].read_bytes()).decode()
        title = FIGURE_TITLES.get(re.sub(r"_\d+$", "", stem), stem.replace("_", " "))
        shown.append({"title": title, "address": f"data:image/{kind};base64,{data}"})
    return shown
