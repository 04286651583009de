"""`report.html`: one file that opens without a network, with every table, figure and example of a set of runs.

Every text is escaped where it is put in; the data of the example browser is JSON in blocks that no browser executes.
A Content-Security-Policy lets nothing run or load but the page's own script, style and pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from warmup.metrics.registry import score_title
from warmup.reporting.figures.drawing import FIGURE_TITLES
from warmup.reporting.page.analysis_grids import Grid, grids
from warmup.reporting.page.browser import browser_data
from warmup.reporting.page.configuration import compare_configurations
from warmup.reporting.tables.cells import columns, verdict
from warmup.reporting.tables.layout import NO_VALUE, NOTHING, Line, Report, Table
from warmup.runs.finding import Run
from warmup.runs.metrics_records import METHOD_NAMES
from warmup.runs.paired_examples import PairedExamples, reversed_gains

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # what HTML and UTF-8 cannot hold
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


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
    sections = {
        "tables": ("Tables", _tables(report)),
        "figures": ("Figures", _figures(figures)),
        "analysis": ("Warmup analysis", "".join(_grid(grid) for grid in grids(analyses))),
        "configuration": ("Configuration", _configuration(runs)),
        "browser": ("Examples", _browser(examples)),
    }
    present = {key: section for key, section in sections.items() if section[1]}
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, (title, _) in present.items())
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, (title, content) in present.items()
    )
    policy = f"default-src 'none'; img-src data:; style-src {_policy_hash(style)}; script-src {_policy_hash(script)}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>SFT against warmup</title><style>{style}</style></head>\n'
        f'<body><header><h1>SFT against warmup</h1><p class="soft">{_counts(runs, failed)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>{body}</main>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _policy_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _html(text: object) -> str:
    return escape(_CONTROL.sub("\ufffd", str(text)))


def _counts(runs: Sequence[Run], failed: int) -> str:
    numbers = {method: sum(run.method == method for run in runs) for method in METHOD_NAMES}
    shown = {method: number for method, number in numbers.items() if number or method != "pause"}
    parts = [f"{number} {METHOD_NAMES[method]} run{'' if number == 1 else 's'}" for method, number in shown.items()]
    return ", ".join([*parts, *([f"{failed} failed"] if failed else [])]) + "."


def _tables(report: Report) -> str:
    parts = [_html_table(table) for table in report.tables] or [f"<p>{NOTHING}</p>"]
    notes = [f"<li>{_html(note)}</li>" for note in report.notes]
    for metric, signatures in report.signatures.items():
        spans = ", ".join(f"<code>{_html(signature)}</code>" for signature in signatures)
        notes.append(f"<li>{_html(score_title(metric))}: {spans}</li>")
    return "".join(parts) + (f'<h3>Notes and signatures</h3><ul class="notes">{"".join(notes)}</ul>' if notes else "")


def _html_table(table: Table) -> str:
    shown = columns(table, p_values=True)
    head = "".join(f'<th scope="col" class="label">{_html(name)}</th>' for name in table.label_names)
    head += "".join(f'<th scope="col">{_html(name)}</th>' for name, _ in shown)
    blocks, number = [], 0
    for block in table.blocks:
        rows = []
        for line in block:
            labels = "".join(f'<th scope="row">{_html(label)}</th>' for label in line.labels)
            rows.append(f"<tr>{labels}{''.join(_data_cell(name, cells[number], line) for name, cells in shown)}</tr>")
            number += 1
        blocks.append(f'<tbody class="block">{"".join(rows)}</tbody>')
    grid = f"<table><thead><tr>{head}</tr></thead>{''.join(blocks)}</table>"
    caption = _html(" ".join(table.caption))
    return f'<h3>{_html(table.title)}</h3>{_scrolled(table.title, grid)}<p class="caption">{caption}</p>'


def _data_cell(name: str, text: str, line: Line) -> str:
    classes = {"better": ' class="up"', "worse": ' class="down"'}
    colour = classes.get(verdict(text, line), "") if name == "difference" else ""
    return f"<td{colour}>{_html(text)}</td>"


def _scrolled(title: str, table: str) -> str:
    """Wide tables scroll on their own, by keyboard too, and the page stays as wide as the screen."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{_html(title)}">{table}</div>'


def _grid(grid: Grid) -> str:
    head = "".join(f'<th scope="col"{_label_class(i)}>{_html(name)}</th>' for i, name in enumerate(grid.header))
    rows = "".join(
        f'<tr><th scope="row">{_html(row[0])}</th>{"".join(f"<td>{_html(cell)}</td>" for cell in row[1:])}</tr>'
        for row in grid.rows
    )
    table = f'<table class="long"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<h3>{_html(grid.title)}</h3>{_scrolled(grid.title, table)}<p class="caption">{_html(grid.caption)}</p>'


def _label_class(column: int) -> str:
    return "" if column else ' class="label"'


def _figures(paths: Sequence[Path]) -> str:
    chosen = {path.stem: path for path in sorted(paths, key=lambda path: path.suffix == ".svg")}
    order = [path.stem for path in paths]
    shown = []
    for stem in sorted(chosen, key=order.index):
        kind = {".svg": "svg+xml", ".png": "png"}[chosen[stem].suffix]
        data = base64.b64encode(chosen[stem].read_bytes()).decode()
        title = FIGURE_TITLES.get(re.sub(r"_\d+$", "", stem), stem.replace("_", " "))
        shown.append(
            f'<figure><img src="data:image/{kind};base64,{data}" alt="{_html(title)}">'
            f'<figcaption class="caption">{_html(title)}</figcaption></figure>'
        )
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def _configuration(runs: Sequence[Run]) -> str:
    """What differs between the runs' config.yaml as a table, and below it what they share."""
    compared = compare_configurations(runs)
    if compared is None:
        return ""
    head = "".join(f'<th scope="col">{_html(name)}</th>' for name in compared.names)
    rows = "".join(
        f'<tr><th scope="row">{_html(key)}</th>'
        + "".join(f"<td>{_html(NO_VALUE if value is None else value)}</td>" for value in values)
        + "</tr>"
        for key, values in compared.differing.items()
    )
    head = f'<thead><tr><th scope="col" class="label">key</th>{head}</tr></thead>'
    table = f'<table class="long settings">{head}<tbody>{rows}</tbody></table>'
    shared = "".join(f"<dt>{_html(key)}</dt><dd>{_html(value)}</dd>" for key, value in compared.shared.items())
    difference = _scrolled("Configuration differences", table) if compared.differing else "<p>No value differs.</p>"
    summary = f"What all runs share ({len(compared.shared)} values)"
    return f"<h3>What differs</h3>{difference}<details><summary>{summary}</summary><dl>{shared}</dl></details>"


def _browser(examples: Sequence[PairedExamples]) -> str:
    if not examples:
        return ""
    blocks = (_block(name, _island(value)) for name, value in browser_data(examples).items())
    reversed_gain = f'<p class="soft">{note}</p>' if (note := reversed_gains(p.score for p in examples)) else ""
    return _CONTROLS + reversed_gain + "".join(blocks)


_CONTROLS = """
<p class="soft">Gain: the example's score with warmup (or pause tokens) minus its score with SFT.
<mark>Marked</mark>: words of the warmup that reappear in the reference, in both.</p>
<noscript><p>This browser of examples needs JavaScript.</p></noscript>
<div class="controls">
<label>Run <select id="run"></select></label>
<label>Sort by <select id="sort"><option value="order">order of the test set</option>
<option value="best">gain, highest first</option><option value="worst">gain, lowest first</option>
<option value="overlap">overlap of warmup and reference</option></select></label>
<label>Search in all texts <input id="search" type="search" autocomplete="off" spellcheck="false"></label>
</div>
<div class="pager"><button id="previous" type="button">Previous</button><button id="next" type="button">Next</button>
<span id="count" role="status"></span></div>
<div id="examples"></div>
"""


def _island(value: Any) -> str:
    """JSON that cannot end its script element, open a comment in it, or break a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: _IN_SCRIPT[found[0]], _CONTROL.sub("\ufffd", text))


def _block(name: str, content: str) -> str:
    return f'<script type="application/json" id="{name}">{content}</script>\n'
