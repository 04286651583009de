"""What a terminal, Markdown, LaTeX and a spreadsheet get, with labels that each would take for its own syntax."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from tests.reporting.conftest import Write
from warmup.reporting.tables.cells import verdict
from warmup.reporting.tables.latex import latex, latex_text
from warmup.reporting.tables.layout import Report, report_on
from warmup.reporting.tables.markdown import markdown
from warmup.reporting.tables.spreadsheet import spreadsheet
from warmup.reporting.tables.terminal import print_report
from warmup.runs.finding import find_runs

NASTY = r"50% of_a & b#1 {x} $5 ~^\ <script>alert(1)</script> | a--b é ñ ß 中"


def report(folder: Path) -> Report:
    return report_on(find_runs([folder]))


def printed(folder: Path, terminal: bool = False) -> str:
    output = io.StringIO()
    print_report(report(folder), Console(file=output, width=80, force_terminal=terminal))
    return output.getvalue()


def test_labels_are_escaped_in_markdown(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, task="a|b <script>alert(1)</script>", model="*my_model*\n`x`")
    (line,) = [line for line in markdown(report(tmp_path)).splitlines() if "BLEU |" in line]
    assert line == r"| a\|b &lt;script&gt;alert(1)&lt;/script&gt; | \*my_model\* \`x\` | BLEU | 10.00 | — | — | 1 |"


def test_the_printed_table_fits_80_columns(write_run: Write, tmp_path: Path) -> None:
    chance = {"bleu": {"uniform": 25.0, "majority": 27.5}}
    for seed in (1, 2):
        for method, bleu in (("sft", 33.0 + seed), ("warmup", 31.0 + 2 * seed)):
            long = {"task": "[bold]translation[/bold] de-en\x1b[31m", "chance": chance, "model": "scratch_llama"}
            write_run(method, seed, bleu, **long, skipped={"comet": "a reason " * 20})
    output = printed(tmp_path)
    assert max(len(line) for line in output.splitlines()) <= 80
    assert "\x1b" not in output
    assert "34.50±0.71" in output and "34.00±1.41" in output and "-0.50" in output and "25.0/27.5" in output
    assert "[bold]" in output  # a label is shown, not obeyed
    assert "…" not in output
    assert "\x1b[31m" in printed(tmp_path, terminal=True)


def test_a_table_with_intervals_fits_80_columns_too(write_answers: Write, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_answers("sft", 5 + seed, seed=seed, model="a_model_with_a_long_name")
        write_answers("warmup", 15 + seed, seed=seed, model="a_model_with_a_long_name")
    output = printed(tmp_path)
    assert max(len(line) for line in output.splitlines()) <= 80 and "…" not in output
    assert "35.00±5.00" in output and "+50.00*" in output and "[3" in output


def test_a_sentence_of_several_captions_is_printed_once(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0, data="o/FLORES-200", model="mt5_base")
    write_run("sft", 1, 10.0)
    assert len(report(tmp_path).tables) == 2
    assert printed(tmp_path).count("mean of warmup minus mean") == 1


def test_csv_holds_unrounded_numbers_and_no_formula(write_run: Write, write_answers: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.123456, task='=HYPERLINK("x"), "quoted"\nlines', model="@model")
    write_answers("sft", 5)
    write_answers("warmup", 15)
    first, second = csv.DictReader(io.StringIO(spreadsheet(report(tmp_path)), newline=""))
    assert first["task"] == '\'=HYPERLINK("x"), "quoted" lines' and first["model"] == "'@model"
    assert float(first["sft_mean"]) == 10.123456 and first["sft_sd"] == "" and first["warmup_mean"] == ""
    assert first["difference"] == first["p_holm"] == first["significant"] == first["paper_difference"] == ""
    assert float(second["difference"]) == 50.0 and second["significant"] == "true"
    assert float(second["p_exact"]) == float(second["p_holm"]) == pytest.approx(2 / 2**10)
    assert float(second["ci_low"]) < 50 < float(second["ci_high"])
    assert 0 < float(second["p_bootstrap"]) < 0.05 and 0 < float(second["p_randomisation"]) < 0.05
    assert second["metric"] == "accuracy" and second["sft_seeds"] == "1" and "examples:20" in second["test_signature"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5%", r"a\_\allowbreak{}b \& 5\%"),
        ("\\ ~ ^", r"\textbackslash{} \textasciitilde{} \textasciicircum{}"),
        ("é ç ß Č", r"\'{e} \c{c} \ss{} \v{C}"),
        ("中", "[U+4E2D]"),
        ("a---b", "a-{}-{}-b"),
        ("1 ± 2 — two\nlines", r"1 $\pm$ 2 --- two lines"),
    ],
)
def test_latex_text(text: str, expected: str) -> None:
    assert latex_text(text) == expected


def test_latex_has_booktabs_a_caption_and_a_label(write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 15)
    write_answers("warmup", 5)
    text = latex(report(tmp_path))
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{SFT against warmup. ", r"\label{tab:comparison}"):
        assert text.count(part) == 1
    assert r"\multicolumn{6}{@{}l@{}}{\textit{logiqa, tiny\_\allowbreak{}t5}} \\" in text
    assert "accuracy & 75.00 & 25.00 & $-$50.00* & [" in text
    assert "& p (Holm) " in text and "] & 0.002 " in text
    assert re.search(r"[^\n]\\end|\S {2,}\S", text.split("begin{tabular}")[1].split("bottomrule")[0]) is None


def test_what_a_paper_has_no_room_for_is_said_in_the_caption(write_answers: Write, tmp_path: Path) -> None:
    chance = {"accuracy": {"uniform": 25.0, "majority": 27.5}}
    for method in ("sft", "warmup"):
        write_answers(method, 5, chance=chance, config={"trainer": {"batch_size": 1}})
        write_answers(method, 5, chance=chance, config={"trainer": {"batch_size": 2}})
    text = latex(report(tmp_path))
    assert "& chance" not in text and "& n " not in text
    assert text.count(r"Chance levels: 25.0/\allowbreak{}27.5 (logiqa: accuracy).") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_alone_and_inside_a_paper(write_run: Write, write_answers: Write, tmp_path: Path) -> None:
    write_answers("sft", 5, model=NASTY, overrides={"data.train": NASTY * 3})
    write_answers("warmup", 15, model=NASTY, overrides={"data.train": NASTY * 3})
    for number in range(45):  # more than a page holds
        write_run("sft", 1, 10.0, model=f"model {number}")
    (tmp_path / "runs" / "failed").mkdir()
    (tmp_path / "runs" / "failed" / "error.txt").write_text(NASTY)
    (tmp_path / "comparison.tex").write_text(latex(report(tmp_path)), encoding="utf-8")
    head = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(head + "\\input{comparison}\nThe end.\n\\end{document}\n")
    for name in ("comparison", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert result.returncode == 0, result.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
        for complaint in ("too large for page", "Missing character", "Overfull"):
            assert complaint not in result.stdout


@pytest.mark.parametrize(("metric", "lost", "won"), [("ter", "+5.00", "-5.00"), ("chrf", "-5.00", "+5.00")])
def test_the_direction_of_a_score_decides_what_is_a_gain(
    write_run: Write, tmp_path: Path, metric: str, lost: str, won: str
) -> None:
    for model, value in (("worse", 60.0 if metric == "ter" else 50.0), ("better", 50.0 if metric == "ter" else 60.0)):
        for method, score in (("sft", 55.0), ("warmup", value)):
            write_run(method, scores={metric: {"value": score, "signature": "s"}}, model=model)
    (table,) = report(tmp_path).tables
    shown = {line.row.model: verdict(lost if line.row.model == "worse" else won, line) for line in table.lines}
    assert shown == {"worse": "worse", "better": "better"}
    coloured = printed(tmp_path, terminal=True)
    assert f"\x1b[31m{lost}" in coloured and f"\x1b[32m{won}" in coloured
    smaller = "↓: smaller is better, and a negative difference a gain."
    assert ("TER ↓" in coloured) == (smaller in table.caption) == (metric == "ter")
    assert (r"TER $\downarrow$" in latex(report(tmp_path))) == (metric == "ter")
