"""The significance of each difference between SFT and another method, tested on what both answered; tests are kept."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version

from tqdm import tqdm

from warmup import __version__
from warmup.errors import UserError
from warmup.metrics.registry import score_title
from warmup.metrics.score_cache import cached_record
from warmup.metrics.significance import NoExampleScores, PairedComparison, TestSet, compare_systems
from warmup.runs.comparison import Row
from warmup.runs.finding import Run
from warmup.runs.metrics_records import SegmentScores
from warmup.runs.predictions import read_predictions

# What the numbers of a kept test depend on beside the answers.
VERSIONS = [__version__, *(version(package) for package in ("numpy", "scipy", "statsmodels", "sacrebleu"))]
CLOSE = 0.01  # points: as far as a score of other library versions may lie from the recorded one


def add_tests(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """`rows` with a test wherever both methods answered one test set, and a line for each reason why there is none."""
    tested = []
    reasons: dict[str, list[str]] = defaultdict(list)
    with tqdm(rows, desc="testing differences", unit="row", leave=False, dynamic_ncols=True, delay=1) as bar:
        for row in bar:
            if row.difference is None:
                tested.append(row)
                continue
            try:
                tested.append(replace(row, test=_test(row)))
            except UserError as error:
                tested.append(row)
                reasons[str(error)].append(f"{score_title(row.metric)} of {row.label}")
    return tested, [f"Not tested: {_few(names)}: {reason}." for reason, names in reasons.items()]


def _few(names: Sequence[str]) -> str:
    """At most three of them, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _test(row: Row) -> PairedComparison:
    """The paired tests over the row's paired seeds.

    Raises:
        UserError: a file is missing or broken, or the answers do not give the scores.
    """
    by_seed = ({run.seed: run for run in row.runs if run.method == method} for method in ("sft", row.method))
    pairs = [[runs[seed] for seed in row.paired_seeds] for runs in by_seed]
    answers = [[read_predictions(run) for run in runs] for runs in pairs]
    baseline_segments, system_segments = (_segments(runs, row.metric) for runs in pairs)
    test_set = TestSet(answers[0][0].references, target_language_of(pairs[0][0]), answers[0][0].options)
    segments = (baseline_segments, system_segments) if baseline_segments and system_segments else None
    baseline, system = ([list(found.predictions) for found in of_method] for of_method in answers)
    content = [VERSIONS, row.metric, baseline, system, vars(test_set), segments]
    try:
        test = cached_record(
            f"the paired test of {row.metric}",
            content,
            lambda: compare_systems(row.metric, baseline, system, test_set, segments),
            asdict,
            lambda kept: PairedComparison.read(kept, row.metric),
        )
    except NoExampleScores as error:
        raise UserError(
            "no score of each example in segment_scores.json; run=evaluate on the model writes them"
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{error}") from error
    for runs, value in zip(pairs, (test.baseline, test.system), strict=True):
        recorded = statistics.fmean(run.scores[row.metric].value for run in runs)
        if abs(recorded - value) > CLOSE:
            raise UserError(f"the answers in {runs[0].folder} score {value:.2f}, not the recorded {recorded:.2f}")
    return test


def _segments(runs: Sequence[Run], metric: str) -> list[Sequence[float]] | None:
    """Each example's score, a list per run; None where a run did not write them."""
    found = [SegmentScores.read(run.folder).scores.get(metric) for run in runs]
    known = [scores for scores in found if scores is not None]
    return known if len(known) == len(found) else None


def target_language_of(run: Run) -> str | None:
    """The language of a run's references: from its configuration, else from the pair in its label."""
    stated = run.settings.get("task.target_language", "null")
    if stated != "null":
        return stated
    return run.task.rpartition("-")[2] if run.task.startswith("translation ") else None
