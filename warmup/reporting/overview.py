"""Everything about a set of runs: tables, figures, the analysis of warmups and the report page, printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from warmup.display import console
from warmup.errors import UserError
from warmup.files import remove_unfinished, write_json, write_text
from warmup.reporting.figures.drawing import figure_files, write_figures
from warmup.reporting.page.analysis_grids import markdown_analysis
from warmup.reporting.page.html import page
from warmup.reporting.page.warmup_statistics import analyse
from warmup.reporting.tables.latex import latex
from warmup.reporting.tables.layout import Report, report_on
from warmup.reporting.tables.markdown import markdown
from warmup.reporting.tables.spreadsheet import spreadsheet
from warmup.reporting.tables.terminal import print_report
from warmup.runs.file_names import RunFile
from warmup.runs.finding import Run, find_runs
from warmup.runs.paired_examples import PairedExamples, pair_examples, partners

TABLES = {RunFile.TABLE_MARKDOWN: markdown, RunFile.TABLE_LATEX: latex, RunFile.TABLE_CSV: spreadsheet}
ANALYSIS = (RunFile.ANALYSIS_JSON, RunFile.ANALYSIS_MARKDOWN)


@dataclass(frozen=True)
class Overview:
    """What was shown and written; `failed`: whether a run among them had failed; `broken`: those nobody can read."""

    report: Report
    figures: list[Path]
    page: Path
    failed: bool
    broken: list[Path]

    def check_read(self) -> None:
        """Let nobody take these tables for those of all runs.

        Raises:
            UserError: the metrics of one cannot be read.
        """
        if self.broken:
            more = f" and {len(self.broken) - 1} more" if len(self.broken) > 1 else ""
            raise UserError(
                f"{self.broken[0] / RunFile.METRICS}{more} does not hold a run's metrics: evaluate that run again, or "
                "move its folder away; the tables have the others"
            )


def write_overview(folders: Sequence[Path], output: Path) -> Overview:
    """Print the tables of all runs in `folders` and below; write them, the figures and `report.html` into `output`.

    Raises:
        UserError: a folder is missing or cannot be written, or no run has begun.
    """
    screen = console()
    found = find_runs(folders)
    report = report_on(found)
    print_report(report, screen)
    remove_unfinished(output)
    for name, write in TABLES.items():
        write_text(output / name, write(report))
        screen.print(f"written: {output / name}", markup=False)
    figures, undrawn = write_figures(found.runs, report.tables, output)
    for line in [*undrawn, *(f"written: {path}" for path in figures)]:
        screen.print(line, markup=False)
    examples, unread = _examples(found.runs)
    analyses = [analyse(paired) for paired in examples if paired.run.method == "warmup"]
    if analyses:
        write_json(output / ANALYSIS[0], analyses)
        write_text(output / ANALYSIS[1], markdown_analysis(analyses))
    write_text(output / RunFile.PAGE, page(report, found.runs, figures, analyses, examples, len(found.failed)))
    written = [*(ANALYSIS if analyses else []), RunFile.PAGE]
    for line in [*unread, *(f"written: {output / name}" for name in written)]:
        screen.print(line, markup=False)
    return Overview(report, figures, output / RunFile.PAGE, bool(found.failed), found.broken)


def complete_overview(folder: Path) -> None:
    """Write the overview of the one run in `folder` again if a part of it is missing: its run ended before it did.

    Raises:
        UserError: the folder cannot be written.
    """
    runs = find_runs([folder]).runs
    analysis = ANALYSIS if any(run.method == "warmup" for run in runs) else ()
    expected = [*TABLES, *figure_files(runs, []), *analysis, RunFile.PAGE]
    if any(not (folder / name).is_file() for name in expected):
        write_overview([folder], folder)


def _examples(runs: Sequence[Run]) -> tuple[list[PairedExamples], list[str]]:
    """The answers of all runs that have them, and a line for each that has none."""
    examples, notes = [], []
    with tqdm(partners(runs), desc="pairing examples", unit="run", leave=False, dynamic_ncols=True, delay=1) as bar:
        for run, sft in bar:
            try:
                examples.append(pair_examples(run, sft))
            except UserError as error:
                notes.append(f"No examples: {error}.")
    return examples, notes
