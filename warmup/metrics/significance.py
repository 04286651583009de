"""Whether a difference between two systems is more than chance: paired tests over the examples of one test set.

Two systems, trained with the same seeds, answered the same examples. The statistic is the difference of their mean
scores over seeds. Everything resamples *examples*: an example is drawn, or its two systems are swapped, for all seeds
at once, since what one seed finds hard the others find hard too. So the p values and intervals speak of this test set
and these trained models; how much a new seed would change is what the standard deviation over seeds says.

- Paired bootstrap (Koehn 2004, EMNLP): examples are drawn with replacement. It also gives the confidence interval.
- Paired approximate randomisation (Noreen 1989; Riezler & Maxwell 2005): the two systems' answers are swapped or not.
- Accuracy's exact test: the randomisation test over all swaps instead of a sample of them. With one seed this is the
  exact McNemar test: a binomial test on the examples that exactly one system has right.

sacrebleu's scores get their p values from its own `PairedTest`; with one seed they are those of the command
`sacrebleu REFERENCES -i SFT WARMUP --paired-bs` (or `--paired-ar`), but for ties: sacrebleu counts only resampled
differences above the observed one, where a p value is the chance of one at least as large. All other scores share the
implementation here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmup.metrics.metric import ScoringSettings, SufficientStatistics, Texts, mean_of_examples
from warmup.metrics.registry import metric_of

Array = npt.NDArray[np.float64]
RESAMPLING_SEED = 12345  # sacrebleu's default, so that both implementations draw the same examples
BOOTSTRAP_SAMPLES = 1000  # sacrebleu's defaults too
RANDOMISATION_TRIALS = 10_000
LEVEL = 0.05  # of significance; the confidence interval covers 1 - LEVEL
_ROWS = 250  # resamples at a time: bounds memory at this many times the number of examples


@dataclass(frozen=True)
class SeedSummary:
    """A score over seeds: mean, sample standard deviation (n - 1 in the denominator; None for one seed), n."""

    mean: float
    deviation: float | None
    n: int


def summarise_seeds(values: Sequence[float]) -> SeedSummary:
    """Mean, standard deviation and number of `values`, one a seed; there must be at least one."""
    return SeedSummary(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class PairedComparison:
    """How far apart two systems are on one test set, in the score's own units (percent), and how sure that is.

    Attributes:
        score: its name, e.g. "rougeL".
        baseline, system: means over seeds.
        difference: `system - baseline`.
        low, high: 95 % confidence interval of the difference (percentiles of the paired bootstrap).
        p_bootstrap, p_randomisation: two-sided.
        p_exact: two-sided, exact; None where the score has no exact test.
        seeds, examples: how many of each.
        signature: what reproduces the tests.
    """

    score: str
    baseline: float
    system: float
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float
    p_exact: float | None
    seeds: int
    examples: int
    signature: str

    @property
    def p_value(self) -> float:
        """The one to judge by: the exact test where there is one, else approximate randomisation."""
        return self.p_randomisation if self.p_exact is None else self.p_exact


@dataclass(frozen=True)
class TestSet:
    """What both systems answered: its references, one an example.

    Attributes:
        target_language: a language's code or name; picks BLEU's tokenizer.
        options: the labels that each example's answer is one of; None where the references say which there are.
    """

    __test__ = False  # pytest collects what is called so

    references: Sequence[str]
    target_language: str | None = None
    options: Sequence[Sequence[str]] | None = None


class NoExampleScores(ValueError):
    """A score that is tested over each example's, and nobody gave them."""


def compare_systems(
    score: str,
    baseline: Sequence[Sequence[str]],
    system: Sequence[Sequence[str]],
    test_set: TestSet,
    segments: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]] | None = None,
) -> PairedComparison:
    """Test the difference between two systems that answered the same examples.

    Args:
        score: the name of a score of a registered metric; of another one, `segments` are enough.
        baseline, system: predictions, one list a seed, seed beside seed; each in the order of `test_set`.
        segments: of the baseline and of the system each example's score, one list a seed, as `segment_scores.json` of a
            run has them under `score`; for the metrics whose own `statistics` are None, and ignored by the others.

    Raises:
        NoExampleScores: such a metric, without `segments`.
        ValueError: lists of different length, no example, no seed.
    """
    n, seeds = len(test_set.references), len(baseline)
    if not n or not baseline or seeds != len(system):
        raise ValueError(f"{seeds} and {len(system)} seeds, {n} examples: as many seeds each, and at least one")
    given = [len(row) for rows in (baseline, system, *(segments or ())) for row in rows]
    if len(given) % (2 * seeds) or set(given) != {n}:
        raise ValueError(f"{score}: every seed must have one output for each of the {n} references")
    metric, settings = metric_of(score), ScoringSettings(test_set.target_language)
    texts = [Texts(row, test_set.references, options=test_set.options) for row in (*baseline, *system)]
    found = [statistic for text in texts if metric and (statistic := metric.statistics(text, settings))]
    if not found:
        if segments is None:
            raise NoExampleScores(f"{score} is tested over each example's score: give segments of both systems")
        found = [mean_of_examples(row) for rows in segments for row in rows]
    tables = np.array([statistic.terms for statistic in found])
    return _compare(score, found[0], tables[:seeds], tables[seeds:])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for many comparisons (Holm 1979), in the order given.

    Whatever is at most 0.05 after it is significant with a family-wise error rate of at most 0.05, however the
    comparisons depend on each other.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _compare(score: str, statistic: SufficientStatistics, baseline: Array, system: Array) -> PairedComparison:
    """Tables are [seeds, examples, statistics]; of `statistic` all but the terms count."""
    seeds, n, width = baseline.shape
    # one row an example, holding the terms of every seed, so that whatever happens to it happens to all seeds
    first, second = (np.moveaxis(table, 0, 1).reshape(n, seeds * width) for table in (baseline, system))

    def seed_mean(sums: Array) -> Array:
        return statistic.score_of(sums.reshape(*sums.shape[:-1], seeds, width)).mean(axis=-1)

    means = [float(seed_mean(table.sum(axis=0))) for table in (first, second)]
    difference = means[1] - means[0]
    resampled = _bootstrap_differences(first, second, seed_mean)
    if statistic.sacrebleu is None:
        p_bootstrap = _two_sided_p_value(resampled - difference, difference)
        p_randomisation = _two_sided_p_value(_swapped_differences(first, second, seed_mean), difference)
        signature = f"seed:{RESAMPLING_SEED}|bs:{BOOTSTRAP_SAMPLES}|ar:{RANDOMISATION_TRIALS}"
    else:
        p_bootstrap, p_randomisation, signature = _sacrebleu_tests(first, second, seed_mean, statistic.sacrebleu)
    differing = int((first != second).any(axis=1).sum())
    # 2 ** differing ways to swap, two of which are as extreme as what was seen: no test of so few can say less
    least = min(1.0, 2.0 ** (1 - differing))
    low, high = np.percentile(resampled, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    return PairedComparison(
        score=score,
        baseline=means[0],
        system=means[1],
        difference=difference,
        low=float(low),
        high=float(high),
        p_bootstrap=max(least, p_bootstrap),
        p_randomisation=max(least, p_randomisation),
        p_exact=_exact_p_value((second - first).sum(axis=1)) if statistic.exact else None,
        seeds=seeds,
        examples=n,
        signature=f"{signature}|seeds:{seeds}|examples:{n}|ci:{100 * (1 - LEVEL):.0f}% percentile bootstrap",
    )


def _bootstrap_differences(baseline: Array, system: Array, score: Callable[[Array], Array]) -> Array:
    """Differences on examples drawn with replacement, the same for both systems; [BOOTSTRAP_SAMPLES]."""
    generator = np.random.default_rng(RESAMPLING_SEED)
    n, found = len(baseline), []
    for start in range(0, BOOTSTRAP_SAMPLES, _ROWS):
        drawn = generator.choice(n, size=(min(_ROWS, BOOTSTRAP_SAMPLES - start), n), replace=True)
        times = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
        found.append(score(times @ system) - score(times @ baseline))
    return np.concatenate(found)


def _swapped_differences(baseline: Array, system: Array, score: Callable[[Array], Array]) -> Array:
    """Differences after swapping the two systems in each example with probability 1/2; [RANDOMISATION_TRIALS]."""
    generator = np.random.default_rng(RESAMPLING_SEED)
    n, found = len(baseline), []
    for start in range(0, RANDOMISATION_TRIALS, _ROWS):
        swapped = generator.integers(2, size=(min(_ROWS, RANDOMISATION_TRIALS - start), n), dtype=bool)
        moved = swapped.astype(float) @ (baseline - system)
        found.append(score(system.sum(axis=0) + moved) - score(baseline.sum(axis=0) - moved))
    return np.concatenate(found)


def _two_sided_p_value(null_differences: Array, difference: float) -> float:
    """Two-sided: the share at least as far from 0 as `difference`, which itself is counted in (Noreen 1989)."""
    extreme = int((np.abs(null_differences) >= abs(difference) - _margin(difference)).sum())
    return (extreme + 1) / (len(null_differences) + 1)


def _margin(difference: float) -> float:
    """How far apart two differences may lie and be equal: sums in another order differ in their last digits."""
    return 1e-9 * max(1.0, abs(difference))


def _exact_p_value(differences: Array) -> float:
    """The randomisation test over all swaps; each example's `differences` [examples] are whole multiples of 100.

    Swapping an example flips its sign, so under the null the sum is one of whole numbers with random signs: for each
    magnitude a binomial distribution, and their convolution.
    """
    counts = np.rint(differences / 100).astype(int)
    distribution, reach = np.ones(1), 0
    for magnitude in range(1, int(np.abs(counts).max()) + 1):
        n = int((np.abs(counts) == magnitude).sum())
        signs = np.zeros(2 * magnitude * n + 1)
        signs[:: 2 * magnitude] = _fair_coins(n)
        distribution, reach = np.convolve(distribution, signs), reach + magnitude * n
    totals, total = np.arange(-reach, reach + 1), abs(int(counts.sum()))
    return min(1.0, float(distribution[np.abs(totals) >= total].sum())) if total else 1.0


def _fair_coins(n: int) -> list[float]:
    """The probability of 0 to n heads in n throws."""
    return [
        math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        for k in range(n + 1)
    ]


def _sacrebleu_tests(
    baseline: Array, system: Array, score: Callable[[Array], Array], metric: Any
) -> tuple[float, float, str]:
    """p values of sacrebleu's own paired bootstrap and approximate randomisation, ties counted, and their signature."""
    from sacrebleu.significance import PairedTest

    difference = float(score(system.sum(axis=0)) - score(baseline.sum(axis=0)))
    margin = _margin(difference)
    # sacrebleu counts `>`: with the observed difference a margin smaller, those that equal it are counted too
    measured = _SeedMean(score, metric, baseline, math.copysign(margin, difference))
    found: dict[str, Any] = {}
    for test, samples in (("bs", BOOTSTRAP_SAMPLES), ("ar", RANDOMISATION_TRIALS)):
        systems: Any = [("baseline", baseline), ("system", system)]
        metrics: Any = {"score": measured}
        signatures, results = PairedTest(systems, metrics, None, test, samples)()
        result: Any = results["score"][1]
        found[test] = 1.0 if abs(difference) <= margin else result.p_value  # nothing is less extreme than no difference
    signature = str(signatures["score"]).replace("|ar:", f"|bs:{BOOTSTRAP_SAMPLES}|ar:")
    return found["bs"], found["ar"], signature


@dataclass(frozen=True)
class _SeedMean:
    """What sacrebleu's `PairedTest` asks of a metric, for the mean over seeds: its "hypotheses" are tables of terms.

    `nudge` is added to the score of `baseline` as a whole, and to no resampled one.
    """

    score: Callable[[Array], Array]
    metric: Any
    baseline: Array
    nudge: float

    def _extract_corpus_statistics(self, table: Array, references: None) -> Array:
        return table

    def _aggregate_and_compute(self, table: Array) -> Any:
        value = self._compute_score_from_stats(np.asarray(table).sum(axis=0))
        if table is self.baseline:
            value.score += self.nudge
        return value

    def _compute_score_from_stats(self, sums: Array) -> Any:
        from sacrebleu.metrics.base import Score

        return Score("score", float(self.score(sums)))

    def get_signature(self) -> Any:
        return self.metric.get_signature()
