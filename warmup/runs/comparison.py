"""SFT against warmup and against pause tokens: means over seeds, differences, and what a reader must know beside them.

Nothing here is laid out: `tables` does that, for this repository's runs and for the paper's rows alike.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from warmup.metrics.registry import score_order, score_title
from warmup.metrics.significance import PairedComparison, summarise_seeds
from warmup.runs.finding import Run, group_by, newest_runs
from warmup.runs.metrics_records import METHOD_NAMES
from warmup.runs.predictions import distinct_test_sets
from warmup.runs.short_labels import Legend, ShortLabels

CHANCE_LEVELS = {"uniform", "majority"}


@dataclass(frozen=True)
class Cell:
    """A score over seeds, in percent: `values` by seed, at least one."""

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return summarise_seeds([*self.values.values()]).mean

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over seeds; None for one seed."""
        return summarise_seeds([*self.values.values()]).deviation


@dataclass(frozen=True)
class Row:
    """One metric of one comparison; a method that was not run has no cell.

    Attributes:
        warmup: the score of `method`: warmup, or the control that is compared with SFT as warmup is.
        detail: what tells this row from others of the same task and model, in few words or a letter; often empty.
        chance: {"uniform": percent, "majority": percent}, for metrics of labels.
        same_test: whether all runs were scored on one and the same test set; otherwise there is no difference.
        variant: the settings of that method alone.
        runs: those of both cells.
    """

    task: str
    model: str
    detail: str
    metric: str
    sft: Cell | None
    warmup: Cell | None
    chance: Mapping[str, float] | None = None
    same_test: bool = True
    test: PairedComparison | None = None
    variant: Mapping[str, str] = field(default_factory=dict)
    runs: Sequence[Run] = ()
    method: str = "warmup"

    @property
    def label(self) -> str:
        """Task, model and detail on one line."""
        return ", ".join(part for part in (self.task, self.model, self.detail) if part)

    @property
    def seeds(self) -> tuple[int, int]:
        """How many of SFT and of warmup."""
        return (len(self.sft.values) if self.sft else 0, len(self.warmup.values) if self.warmup else 0)

    @property
    def paired_seeds(self) -> list[int]:
        """The seeds that both methods have: the difference, its interval and its test are over these alone."""
        return sorted(self.sft.values.keys() & self.warmup.values.keys()) if self.sft and self.warmup else []

    @property
    def difference(self) -> float | None:
        """Mean over the paired seeds of warmup minus SFT, whichever is better; None without such a seed."""
        if self.sft is None or self.warmup is None or not self.same_test or not self.paired_seeds:
            return None
        return statistics.fmean(self.warmup.values[seed] - self.sft.values[seed] for seed in self.paired_seeds)


@dataclass(frozen=True)
class Group:
    """One variant of warmup or its control (or none that was run) and the SFT runs beside it, in order of seeds.

    `warmup` has the runs of `method`.
    """

    experiment: Mapping[str, str]
    variant: Mapping[str, str]
    sft: Sequence[Run]
    warmup: Sequence[Run]
    method: str = "warmup"

    @property
    def runs(self) -> list[Run]:
        """Of both methods."""
        return [*self.sft, *self.warmup]


@dataclass
class Comparison:
    """The rows, what a reader must know to trust them, the signatures of each metric, and the letters in `detail`s."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signatures: dict[str, list[str]] = field(default_factory=dict)
    legend: Legend = field(default_factory=Legend)


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compare SFT, averaged over its seeds, with each variant of warmup, for every experiment among `runs`."""
    kept, repeated = newest_runs(runs)
    labels = ShortLabels(kept)
    rows: list[Row] = []
    warnings: list[str] = []
    for group in group_runs(kept):
        parts = (labels.of_experiment(group.experiment), labels.of_variant(group.method, group.variant))
        detail = ", ".join(filter(None, parts))
        of_group = _rows(group, detail)
        rows += of_group
        warnings += [*_warnings(group, detail), *_unpaired(of_group)]
    notes = [*warnings, *_skipped(kept), *_score_notes(kept), *repeated]
    return Comparison(rows, notes, _signatures(kept), labels.legend)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """A group for every variant of warmup and its control in every experiment; those of one share its SFT runs."""
    groups = []
    for experiment, same in group_by(runs, "experiment"):
        sft = [run for run in same if run.method == "sft"]
        others = [method for method in METHOD_NAMES if method != "sft"]
        found = [
            Group(experiment, variant, sft, seeds, method)
            for method in others
            for variant, seeds in group_by([run for run in same if run.method == method], "variant")
        ]
        groups += found or [Group(experiment, {}, sft, [])]
    return groups


def _rows(group: Group, detail: str) -> list[Row]:
    same_test = len(distinct_test_sets(group.runs)) <= 1
    rows = []
    for metric in sorted({metric for run in group.runs for metric in run.scores}, key=score_order):
        levels = [run.chance[metric] for run in group.runs if metric in run.chance]
        known = levels and all(level.keys() >= CHANCE_LEVELS for level in levels)
        chance = {way: statistics.fmean(level[way] for level in levels) for way in CHANCE_LEVELS} if known else None
        cells = (_over_seeds(group.sft, metric), _over_seeds(group.warmup, metric))
        rows.append(
            Row(
                group.runs[0].task,
                group.runs[0].model_name,
                detail,
                metric,
                *cells,
                chance,
                same_test,
                variant=group.variant,
                runs=[run for run in group.runs if metric in run.scores],
                method=group.method,
            )
        )
    return rows


def _over_seeds(runs: Sequence[Run], metric: str) -> Cell | None:
    values = {run.seed: run.scores[metric].value for run in runs if metric in run.scores}
    return Cell(values) if values else None


def _warnings(group: Group, detail: str) -> list[str]:
    """What makes a comparison less than it looks: no label for an answer, unlike tests and signatures."""
    name = ", ".join(filter(None, (group.runs[0].task, group.runs[0].model_name, detail)))
    lines = []
    shares = []
    for method, same in (("sft", group.sft), (group.method, group.warmup)):
        invalid = [run.invalid_answers for run in same if run.invalid_answers is not None]
        if any(invalid):
            shares.append(f"{METHOD_NAMES[method]} {100 * statistics.fmean(invalid):.1f}%")
    if shares:
        lines.append(f"Answers that are no label, counted as wrong: {', '.join(shares)} ({name}).")
    tests = distinct_test_sets(group.runs)
    if len(tests) > 1:
        sizes = sorted({size for size, _ in tests})
        what = f"{' and '.join(map(str, sizes))} examples" if len(sizes) > 1 else f"{len(tests)} different test sets"
        lines.append(f"Not the same test: {name} was scored on {what}; no difference is given.")
    for metric, signatures in _signatures(group.runs).items():
        if len(signatures) > 1:
            lines.append(f"Not the same metric: {score_title(metric)} of {name} has {len(signatures)} signatures.")
    return lines


def _unpaired(rows: Sequence[Row]) -> list[str]:
    """A line for the seeds that a difference leaves out, since only one of the methods has them."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.sft and row.warmup:
            for method, other, cell in (("sft", row.method, row.sft), (row.method, "sft", row.warmup)):
                alone = sorted(cell.values.keys() - set(row.paired_seeds))
                if alone:
                    names = (
                        f"seed{'s' if len(alone) > 1 else ''} {', '.join(map(str, alone))} of {METHOD_NAMES[method]}"
                    )
                    verb = "have" if len(alone) > 1 else "has"
                    found[f"{names} {verb} no {METHOD_NAMES[other]} run beside"].append(row)
    lines = []
    for what, left_out in found.items():
        metrics = "" if len(left_out) == len(rows) else ", ".join(score_title(row.metric) for row in left_out) + " of "
        consequence = "left out of the difference" if left_out[0].paired_seeds else "no seed in common, no difference"
        lines.append(f"Not paired: {what}: {consequence} ({metrics}{left_out[0].label}).")
    return lines


def _skipped(runs: Sequence[Run]) -> list[str]:
    reasons: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for run in runs:
        for metric, reason in run.skipped.items():
            reasons[reason].add(metric)
        for reason in set(run.skipped.values()):
            counts[reason] += 1
    lines = []
    for reason, metrics in sorted(reasons.items(), key=lambda item: min(score_order(metric) for metric in item[1])):
        names = ", ".join(score_title(metric) for metric in sorted(metrics, key=score_order))
        lines.append(f"Skipped: {names} in {counts[reason]} run{'s' if counts[reason] > 1 else ''}: {reason}")
    return lines


def _score_notes(runs: Sequence[Run]) -> list[str]:
    """What the runs say that their scores do not see, each once."""
    return [f"{note}." for note in dict.fromkeys(note for run in runs for note in run.notes)]


def _signatures(runs: Iterable[Run]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for metric, score in run.scores.items():
            found[metric].add(score.signature)
    return {metric: sorted(found[metric]) for metric in sorted(found, key=score_order)}
