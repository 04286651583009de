"""Whether a difference between two systems is more than chance: paired tests over the examples of one test set.

Two systems, trained with the same seeds, answered the same examples. The statistic is the difference of their mean
scores over seeds. Everything resamples *examples*: an example is drawn, or its two systems are swapped, for all seeds
at once, since what one seed finds hard the others find hard too. So the p values and intervals speak of this test set
and these trained models; how much a new seed would change is what the standard deviation over seeds says.

- Paired bootstrap (Koehn 2004, EMNLP): examples are drawn with replacement. It also gives the confidence interval.
- Paired approximate randomisation (Noreen 1989; Riezler & Maxwell 2005): the two systems' answers are swapped or not.
- Accuracy's exact test: the randomisation test over all swaps instead of a sample of them. With one seed this is the
  exact McNemar test, statsmodels'.

Scores that are means over examples are tested by scipy's `permutation_test` and `bootstrap`. Corpus scores (BLEU,
chrF++, TER, macro F1) are functions of sums over examples, which are resampled here; those of sacrebleu's scores draw
what its `PairedTest` draws, and with one seed the p values are those of the command
`sacrebleu REFERENCES -i SFT WARMUP --paired-bs` (or `--paired-ar`), but for ties: sacrebleu counts only resampled
differences above the observed one, where a p value is the chance of one at least as large.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
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
# Resamples at a time: bounds memory at this many times the number of examples. Of 32, since numpy draws that many bits
# at once: the parts are then the same draws as all of them together, which are sacrebleu's.
_ROWS = 256
_GRID = 1e8  # means are tested over whole multiples of 1 / _GRID: their sums are exact, so that ties are ties


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

    @classmethod
    def read(cls, values: Mapping[str, Any], score: str) -> PairedComparison:
        """Of the values of `asdict`.

        Raises:
            TypeError, ValueError: they are not those of a comparison of `score`.
        """
        found = cls(**values)
        numbers = [value for name, value in values.items() if name not in ("score", "signature", "p_exact")]
        numbers += [] if found.p_exact is None else [found.p_exact]
        if found.score != score or not isinstance(found.signature, str) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"no comparison of {score}")
        return found

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
    """Holm's step-down adjustment for many comparisons (Holm 1979) by statsmodels, in the order given.

    Whatever is at most 0.05 after it is significant with a family-wise error rate of at most 0.05, however the
    comparisons depend on each other.
    """
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def _compare(score: str, statistic: SufficientStatistics, baseline: Array, system: Array) -> PairedComparison:
    """Tables are [seeds, examples, statistics]; of `statistic` all but the terms count."""
    seeds, n, width = baseline.shape
    # one row an example, holding the terms of every seed, so that whatever happens to it happens to all seeds
    first, second = (np.moveaxis(table, 0, 1).reshape(n, seeds * width) for table in (baseline, system))

    def seed_mean(sums: Array) -> Array:
        return statistic.score_of(sums.reshape(*sums.shape[:-1], seeds, width)).mean(axis=-1)

    means = [float(seed_mean(table.sum(axis=0))) for table in (first, second)]
    difference = means[1] - means[0]
    if statistic.is_mean:
        resampled, p_randomisation = _tests_of_the_mean((second - first).mean(axis=1))
    else:
        resampled = _bootstrap_differences(first, second, seed_mean)
        p_randomisation = _two_sided_p_value(_swapped_differences(first, second, seed_mean), difference)
    if statistic.sacrebleu is None:
        p_bootstrap = _two_sided_p_value(resampled - difference, difference)
        signature = f"seed:{RESAMPLING_SEED}|bs:{BOOTSTRAP_SAMPLES}|ar:{RANDOMISATION_TRIALS}"
    else:
        p_bootstrap = _sacrebleu_p_value(resampled, difference)
        stated = statistic.sacrebleu.get_signature()
        for name, value in (("seed", RESAMPLING_SEED), ("bs", BOOTSTRAP_SAMPLES), ("ar", RANDOMISATION_TRIALS)):
            stated.update(name, value)
        signature = str(stated)
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
        p_exact=_exact_p_value((second - first) / 100) if statistic.exact else None,
        seeds=seeds,
        examples=n,
        signature=f"{signature}|seeds:{seeds}|examples:{n}|ci:{100 * (1 - LEVEL):.0f}% percentile bootstrap",
    )


def _tests_of_the_mean(gains: Array) -> tuple[Array, float]:
    """Means of resampled `gains` [examples], and the p value of their mean when each one's sign is a coin's.

    Both by scipy, whose randomisation test takes all swaps where there are no more of them than trials.
    """
    from scipy.stats import bootstrap, permutation_test

    if len(gains) == 1:  # which scipy refuses
        return np.repeat(gains, BOOTSTRAP_SAMPLES), 1.0
    drawn = bootstrap(
        (gains,), np.mean, n_resamples=BOOTSTRAP_SAMPLES, batch=_ROWS, method="percentile", rng=RESAMPLING_SEED
    )
    swapped = permutation_test(
        (np.rint(gains * _GRID),),
        lambda signed, axis: np.abs(signed.sum(axis=axis)),
        permutation_type="samples",
        alternative="greater",  # of absolute sums: two-sided
        n_resamples=RANDOMISATION_TRIALS,
        batch=_ROWS,
        vectorized=True,
        rng=RESAMPLING_SEED,
    )
    return drawn.bootstrap_distribution, float(swapped.pvalue)


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
    extreme = int((np.abs(null_differences) > abs(difference) - _margin(difference)).sum())
    return (extreme + 1) / (len(null_differences) + 1)


def _sacrebleu_p_value(resampled: Array, difference: float) -> float:
    """Of the paired bootstrap as sacrebleu has it, ties counted: absolute differences less their mean."""
    margin = _margin(difference)
    if abs(difference) <= margin:  # nothing is less extreme than no difference
        return 1.0
    distances = np.abs(resampled)
    extreme = int((distances - distances.mean() > abs(difference) - margin).sum())
    return (extreme + 1) / (len(resampled) + 1)


def _margin(difference: float) -> float:
    """How far apart two differences may lie and be equal: sums in another order differ in their last digits."""
    return 1e-9 * max(1.0, abs(difference))


def _exact_p_value(gains: Array) -> float:
    """The randomisation test over all swaps; `gains` [examples, seeds] are -1, 0 and 1.

    Swapping an example flips the sign of its sum over seeds, so under the null the total is one of whole numbers with
    random signs: for each magnitude a binomial distribution, and their convolution. One seed's is McNemar's test.
    """
    counts = np.rint(gains.sum(axis=1)).astype(int)
    if gains.shape[1] == 1:
        from statsmodels.stats.contingency_tables import mcnemar

        return float(mcnemar([[0, (counts > 0).sum()], [(counts < 0).sum(), 0]], exact=True).pvalue)
    from scipy.stats import binom

    distribution, reach = np.ones(1), 0
    for magnitude in range(1, int(np.abs(counts).max()) + 1):
        n = int((np.abs(counts) == magnitude).sum())
        signs = np.zeros(2 * magnitude * n + 1)
        signs[:: 2 * magnitude] = binom.pmf(np.arange(n + 1), n, 0.5)
        distribution, reach = np.convolve(distribution, signs), reach + magnitude * n
    totals, total = np.arange(-reach, reach + 1), abs(int(counts.sum()))
    return min(1.0, float(distribution[np.abs(totals) >= total].sum())) if total else 1.0
