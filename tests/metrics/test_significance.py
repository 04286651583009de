"""Paired tests against sacrebleu's own command, full enumeration, scipy, and data on which nothing is to be found."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.metrics.scoring import compared, scored
from warmup.metrics import sacrebleu_terms, significance
from warmup.metrics.metric import ScoringSettings, Texts
from warmup.metrics.overlap import SacrebleuMetric
from warmup.metrics.registry import METRICS, larger_is_better, score_kinds
from warmup.metrics.significance import PairedComparison, TestSet, compare_systems, holm, summarise_seeds

WORDS = ["the", "a", "man", "woman", "dog", "cat", "runs", "eats", "sees", "big", "small", "red", "house", "tree"]


def sentences(n: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(4, 12))) for _ in range(n)]


def noisy(texts: list[str], share: float, seed: int) -> list[str]:
    """`texts` with a share of the words replaced at random."""
    generator = random.Random(seed)
    return [
        " ".join(generator.choice(WORDS) if generator.random() < share else w for w in text.split()) for text in texts
    ]


def labels(truths: list[str], share: float, seed: int) -> list[str]:
    """Answers of which about a share is right; some are no label."""
    generator = random.Random(seed)
    return [truth if generator.random() < share else generator.choice("ABCDE") for truth in truths]


def compare_segments(baseline: list[list[float]], system: list[list[float]]) -> PairedComparison:
    n = len(baseline[0])
    empty = [[""] * n] * len(baseline)
    return compared("rougeL", empty, empty, [""] * n, None, (baseline, system))


def test_one_seed_gives_the_p_values_of_the_sacrebleu_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = sentences(80)
    outputs = {"baseline": noisy(references, 0.5, 1), "system": noisy(references, 0.4, 2)}
    for name, lines in {"references": references, **outputs}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "baseline", "system", "-f", "json", "-w", "9"]
    names = {"bleu": "BLEU", "chrf": "chrF2++", "ter": "TER"}
    found = {score: compared(score, *([o] for o in outputs.values()), references) for score in ("bleu", "chrf")}
    monkeypatch.setattr(significance, "_margin", lambda difference: 0.0)  # TER ties often: as the command counts them
    found["ter"] = compared("ter", *([o] for o in outputs.values()), references)
    for test in ("bs", "ar"):
        options = ["-m", *names, "--chrf-word-order", "2", f"--paired-{test}"]
        output = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        baseline, system = json.loads(output)
        for score, name in names.items():
            p_value = found[score].p_bootstrap if test == "bs" else found[score].p_randomisation
            assert 0.0001 < system[name]["p_value"] < 0.9999
            assert p_value == pytest.approx(system[name]["p_value"], abs=1e-9)
            assert found[score].baseline == pytest.approx(baseline[name]["score"])
            assert found[score].system == pytest.approx(system[name]["score"])
    assert "bs:1000|ar:10000|seed:12345" in found["bleu"].signature and "tok:13a" in found["bleu"].signature
    assert "version:2" in found["chrf"].signature and "nw:2" in found["chrf"].signature


@pytest.mark.parametrize("score", ["bleu", "chrf", "ter"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_scores_of_sums_are_sacrebleus(score: str, data: st.DataObject) -> None:
    """Of any sums, also of none: whole numbers as sacrebleu's statistics are."""
    metric = METRICS[score]
    assert isinstance(metric, SacrebleuMetric)
    width = {"bleu": 10, "chrf": 24, "ter": 2}[score]
    rows = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=5))
    theirs = [metric.scorer("en")._compute_score_from_stats([float(value) for value in row]).score for row in rows]
    assert metric.of_sums(np.array(rows, dtype=float)) == pytest.approx(theirs, rel=1e-12, abs=1e-12)


TEXTS = st.text("ab ab ,.!(\t\n\u3000é中国𝒳\ud800", max_size=30) | st.lists(st.sampled_from(WORDS)).map(" ".join)


@pytest.mark.parametrize("most", [2**62, 60])  # 60: the numbers of n-grams are made smaller at each order
@pytest.mark.parametrize("score, language", [("bleu", "en"), ("bleu", "zh"), ("bleu", "th"), ("chrf", "en")])
@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_statistics_of_each_example_are_sacrebleus(
    score: str, language: str, most: int, pairs: list[tuple[str, str]]
) -> None:
    metric = METRICS[score]
    assert isinstance(metric, SacrebleuMetric)
    texts, scorer = Texts(*zip(*pairs, strict=True)), metric.scorer(language)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sacrebleu_terms, "MOST", most)
        found = metric.terms(scorer, texts.predictions, texts.references)
    assert found.tolist() == scorer._extract_corpus_statistics(texts.predictions, [texts.references])


@pytest.mark.parametrize("score", ["bleu", "chrf", "ter"])
def test_an_examples_score_is_sacrebleus_sentence_score(score: str) -> None:
    references = ["", "a big dog", *sentences(8)]
    texts = Texts(["a", "", *noisy(references[2:], 0.4, 1)], references)
    scorer = METRICS[score].scorer("en")  # type: ignore[attr-defined]
    pairs = zip(texts.predictions, references, strict=True)
    theirs = [scorer.sentence_score(answer, [reference]).score for answer, reference in pairs]
    assert METRICS[score].example_scores(score, texts, ScoringSettings("en")) == theirs


def test_the_statistics_of_one_corpus_are_extracted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 10)
    extracted = []
    original = METRICS["chrf"].terms  # type: ignore[attr-defined]
    monkeypatch.setattr(METRICS["chrf"], "terms", lambda *a: extracted.append(a) or original(*a))
    references = [f"once {text}" for text in sentences(10)]
    baseline, *systems = ([noisy(references, 0.5, seed)] for seed in range(4))
    found = [compared("chrf", baseline, system, references) for system in systems]
    METRICS["chrf"].example_scores("chrf", Texts(baseline[0], references), ScoringSettings())
    assert len(extracted) == 4 and len({test.system for test in found}) == 3


@pytest.mark.parametrize("n", [70, 81])
def test_parts_of_the_draws_are_all_draws_at_once(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 600)
    references = sentences(n)
    systems = [[noisy(references, share, seed)] for share, seed in ((0.5, 1), (0.45, 2))]
    parts = compared("chrf", *systems, references)
    monkeypatch.setattr(significance, "_ROWS", 10_000)
    assert compared("chrf", *systems, references) == parts


def test_a_seed_repeated_adds_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 200)
    references = sentences(40)
    baseline, system = noisy(references, 0.5, 1), noisy(references, 0.45, 2)
    once = compared("chrf", [baseline], [system], references)
    twice = compared("chrf", [baseline] * 3, [system] * 3, references)
    for number in ("baseline", "system", "difference", "low", "high", "p_bootstrap", "p_randomisation"):
        assert getattr(twice, number) == pytest.approx(getattr(once, number)), number
    assert (once.seeds, twice.seeds, once.examples, twice.examples) == (1, 3, 40, 40)


def test_bleu_of_several_seeds_is_their_mean_and_examples_are_drawn_for_all_seeds_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(significance, "BOOTSTRAP_SAMPLES", 40)
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 10)
    references = sentences(20)
    baseline = [noisy(references, 0.5, seed) for seed in (1, 2)]
    system = [noisy(references, 0.4, seed) for seed in (3, 4)]
    found = compared("bleu", baseline, system, references, "en")

    def mean(seeds: list[list[str]], chosen: np.ndarray) -> float:
        def bleu(answers: list[str]) -> float:
            picked = [answers[i] for i in chosen], [references[i] for i in chosen]
            return scored(["bleu"], *picked, None, "en").scores["bleu"].value

        return statistics.fmean(map(bleu, seeds))

    everything = np.arange(20)
    assert found.difference == pytest.approx(mean(system, everything) - mean(baseline, everything))
    draws = np.random.default_rng(12345).choice(20, size=(40, 20), replace=True)
    differences = [mean(system, drawn) - mean(baseline, drawn) for drawn in draws]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])))


@pytest.mark.parametrize("seeds", [1, 2])
def test_approximate_randomisation_against_all_swaps(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    baseline = generator.uniform(0, 100, (seeds, 9))
    system = baseline + generator.normal(6, 12, (seeds, 9))
    gains = (system - baseline).mean(axis=0)  # swapping an example for all seeds at once flips the sign of its gain
    sums = [abs(np.dot(signs, gains)) for signs in itertools.product([1, -1], repeat=9)]
    exact = np.mean([value >= abs(gains.sum()) - 1e-9 for value in sums])
    found = compare_segments(baseline.tolist(), system.tolist())
    assert 0.01 < exact < 0.99
    assert found.p_randomisation == pytest.approx(exact, abs=0.015)  # three standard errors of 10,000 trials
    assert found.difference == pytest.approx(gains.mean())


def test_the_bootstrap_against_all_resamples() -> None:
    baseline, system = [10.0, 40.0, 20.0, 30.0, 25.0], [30.0, 35.0, 28.0, 41.0, 27.0]
    gains = np.subtract(system, baseline)
    means = np.array([gains[list(drawn)].mean() for drawn in itertools.product(range(5), repeat=5)])
    found = compare_segments([baseline], [system])
    exact = np.mean(np.abs(means - gains.mean()) >= gains.mean() - 1e-9)
    assert found.p_bootstrap == pytest.approx(max(exact, 2**-4), abs=0.03)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1.5)


def test_macro_f1_is_recomputed_for_every_swap() -> None:
    truths = list("ABCDABC")
    baseline, system = list("ABBCAED"), list("ABCDABA")
    found = compared("macro_f1", [baseline], [system], truths)

    def f1(answers: list[str]) -> float:
        return scored(["macro_f1"], answers, truths, None, None).scores["macro_f1"].value

    assert (found.baseline, found.system) == pytest.approx((f1(baseline), f1(system)))
    differences = []
    for swaps in itertools.product([False, True], repeat=7):
        first = [s if swap else b for b, s, swap in zip(baseline, system, swaps, strict=True)]
        second = [b if swap else s for b, s, swap in zip(baseline, system, swaps, strict=True)]
        differences.append(abs(f1(second) - f1(first)))
    exact = np.mean(np.array(differences) >= abs(found.difference) - 1e-9)
    assert 0.01 < exact < 0.99
    assert found.p_randomisation == pytest.approx(exact, abs=0.015)
    assert found.p_exact is None and found.p_value == found.p_randomisation


def test_accuracy_of_one_seed_is_tested_as_mcnemar_does_exactly() -> None:
    truths = random.Random(0).choices("ABCD", k=300)
    baseline, system = labels(truths, 0.4, 1), labels(truths, 0.5, 2)
    found = compared("accuracy", [baseline], [system], truths)
    pairs = [(b == t, s == t) for b, s, t in zip(baseline, system, truths, strict=True)]
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    assert found.p_exact == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-9)
    assert found.p_value == found.p_exact
    assert found.p_randomisation == pytest.approx(found.p_exact, abs=0.015)
    assert found.difference == pytest.approx(100 * (won - lost) / 300)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0, 0, 1]), min_size=6, max_size=6), min_size=2, max_size=7))
def test_accuracy_of_several_seeds_is_tested_over_all_swaps(rows: list[list[int]]) -> None:
    """Each row is one example: whether each of three seeds of both systems has it right."""
    answers = [["A" if row[column] else "" for row in rows] for column in range(6)]
    found = compared("accuracy", answers[:3], answers[3:], ["A"] * len(rows))
    gains = [sum(row[3:]) - sum(row[:3]) for row in rows]
    sums = [abs(np.dot(signs, gains)) for signs in itertools.product([1, -1], repeat=len(rows))]
    assert found.p_exact == pytest.approx(np.mean([value >= abs(sum(gains)) for value in sums]))


@pytest.mark.parametrize("score", ["bleu", "chrf", "accuracy", "macro_f1", "rougeL"])
def test_equal_systems_and_single_examples_prove_nothing(score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 500)
    references = ["A", "B"] if score in ("accuracy", "macro_f1") else ["the cat sees a house", "a big dog runs"]

    def compare(baseline: list[str], system: list[str], gain: float) -> PairedComparison:
        segments = [[10.0 * i for i in range(len(baseline))]], [[10.0 * i + gain for i in range(len(baseline))]]
        return compared(score, [baseline], [system], references[: len(baseline)], "en", segments)

    equal = compare(["A", "a big dog"], ["A", "a big dog"], 0.0)
    assert (equal.difference, equal.low, equal.high) == (0, 0, 0)
    single = compare([""], references[:1], 5.0)
    assert single.difference > 0 and single.low == single.high == pytest.approx(single.difference)
    for found in (equal, single):
        assert found.p_bootstrap == found.p_randomisation == found.p_value == 1


SCORES = list(score_kinds())
# (baseline, system, references): different texts, equal in what they are worth
NULLS = {
    "all zero": (["A"] * 40, [""] * 40, ["the cat sees big dogs"] * 40),
    "all zero, the other way": ([""] * 40, ["A"] * 40, ["the cat sees big dogs"] * 40),
    "both empty": ([""] * 40, [""] * 40, ["the cat sees big dogs"] * 40),
    "all right": (["the big cat runs"] * 40, ["the big cat runs"] * 40, ["the big cat runs"] * 40),
    "as good, elsewhere": (
        ["the big cat runs"] * 20 + [""] * 20,
        [""] * 20 + ["the big cat runs"] * 20,
        ["the big cat runs"] * 40,
    ),
    "another order": (noisy(["a man sees the red house"] * 40, 0.4, 1), None, ["a man sees the red house"] * 40),
    "wrong in other words": (["the big cat xxx"] * 40, ["the big cat zzz"] * 40, ["the big cat runs"] * 40),
    "one example": ([""], ["the big cat runs"], ["the big cat runs"]),
    "one example differs": ([""] + ["dog"] * 39, ["the big cat runs"] + ["dog"] * 39, ["the big cat runs"] * 40),
}


def compare_texts(score: str, baseline: list[str], system: list[str], references: list[str]) -> PairedComparison:
    """As for real runs; in the neural metrics' place stands the share of the reference's words that the answer has."""

    def segments(answers: list[str]) -> list[float]:
        if score.startswith("rouge"):
            return list(scored(["rouge"], answers, references, None, "en").scores[score].segments or [])
        pairs = zip(answers, references, strict=True)
        return [
            100 * len(set(answer.split()) & set(truth.split())) / len(set(truth.split())) for answer, truth in pairs
        ]

    return compared(score, [baseline], [system], references, "en", ([segments(baseline)], [segments(system)]))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("null", NULLS)
def test_systems_that_are_worth_the_same_get_no_star(null: str, score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "BOOTSTRAP_SAMPLES", 100)
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 300)
    baseline, system, references = NULLS[null]
    found = compare_texts(score, baseline, system or baseline[::-1], references)
    assert np.isfinite([found.low, found.high]).all() and found.low <= found.difference <= found.high
    if "one example" in null:
        assert found.difference != 0 and (found.difference > 0) == larger_is_better(score)
    else:
        assert found.difference == pytest.approx(0, abs=1e-9)
    # of one example that differs, both ways to swap are as extreme; no difference is as extreme as any
    assert found.p_value == found.p_bootstrap == found.p_randomisation == 1


@pytest.mark.parametrize("score", ["bleu", "chrf"])
def test_resampled_differences_that_equal_the_observed_one_count(score: str) -> None:
    """Six like gains and two like losses: of the 2^8 swaps, those that only equal the observed difference count too."""
    references = ["the big cat sees a red house"] * 8
    right, wrong = references[0], "the big cat sees a small tree"
    baseline, system = [wrong] * 6 + [right] * 2, [right] * 6 + [wrong] * 2

    def value(answers: list[str]) -> float:
        return scored([score], answers, references, None, "en").scores[score].value

    of = [value([right] * n + [wrong] * (8 - n)) for n in range(9)]  # a corpus score asks only how many are right
    ones = [sum(swaps) for swaps in itertools.product([0, 1], repeat=8)]
    exact = np.mean([abs(of[8 - n] - of[n]) >= of[6] - of[2] - 1e-9 for n in ones])
    assert exact == pytest.approx(74 / 256)  # two-sided: 2 * (28 + 8 + 1)
    found = compared(score, [baseline], [system], references, "en")
    assert found.p_randomisation == pytest.approx(exact, abs=0.015)
    mirrored = compared(score, [system], [baseline], references, "en")
    assert mirrored.p_randomisation == found.p_randomisation and mirrored.p_bootstrap == found.p_bootstrap


@pytest.mark.parametrize("score", SCORES)
def test_p_values_at_their_floor(score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No resample is as extreme: (0 + 1) / (n + 1). Of 2^d swaps of d differing examples, 2 always are: 2^(1-d)."""
    monkeypatch.setattr(significance, "BOOTSTRAP_SAMPLES", 199)
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 399)
    right = "the big cat runs"

    def compare(differing: int, same: int) -> PairedComparison:
        texts = [""] * differing + [right] * same, [right] * (differing + same)
        return compare_texts(score, *texts, texts[1])

    clear = compare(40, 40)
    assert (clear.p_bootstrap, clear.p_randomisation) == (1 / 200, 1 / 400)
    assert clear.p_exact == (pytest.approx(2**-39) if score == "accuracy" else None)
    few = compare(4, 0)  # every resample of the bootstrap shows the same difference, so that alone it would say 1 / 200
    assert few.p_bootstrap == 1 / 8 and few.p_randomisation >= 1 / 8
    assert few.p_exact == (pytest.approx(1 / 8) if score == "accuracy" else None)


@pytest.mark.parametrize("language", ["zh", None])
def test_chinese_is_cut_as_its_scores_are(language: str | None) -> None:
    references = ["一个男人骑着马。", "两只狗在草地上奔跑！", "这个女人在看书。"]
    answers = ["一个男人骑马。", "两只狗在草地奔跑！", ""]
    found = compared("bleu", [answers], [references], references, language)
    score = scored(["bleu"], answers, references, None, language).scores["bleu"]
    assert found.baseline == pytest.approx(score.value)
    assert f"tok:{'zh' if language else '13a'}" in found.signature


def test_the_same_call_gives_the_same_numbers_and_the_mirrored_one_the_mirrored() -> None:
    truths = random.Random(0).choices("ABCD", k=80)
    systems = [labels(truths, 0.4, 1)], [labels(truths, 0.5, 2)]
    for score in ("accuracy", "macro_f1"):
        first = compared(score, *systems, truths)
        assert first == compared(score, *systems, truths)
        mirrored = compared(score, *systems[::-1], truths)
        assert mirrored.difference == pytest.approx(-first.difference)
        assert (mirrored.low, mirrored.high) == pytest.approx((-first.high, -first.low))
        assert (mirrored.p_value, mirrored.p_bootstrap) == pytest.approx((first.p_value, first.p_bootstrap))


def _null_segments(generator: np.random.Generator) -> PairedComparison:
    hardness = generator.uniform(0, 100, 80)
    return compare_segments(*(hardness + generator.normal(0, 15, (2, 2, 80))).tolist())


def _null_labels(generator: np.random.Generator) -> PairedComparison:
    truths = generator.choice(list("ABCD"), 80)
    answers = np.where(generator.random((2, 2, 80)) < 0.4, truths, generator.choice(list("ABCDE"), (2, 2, 80)))
    return compared("accuracy", *answers.tolist(), truths.tolist())


@pytest.mark.parametrize("draw", [_null_segments, _null_labels])
def test_where_nothing_is_to_be_found_one_test_in_twenty_finds_it(
    draw: Callable[[np.random.Generator], PairedComparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "BOOTSTRAP_SAMPLES", 300)
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 300)
    generator = np.random.default_rng(0)
    found = [draw(generator) for _ in range(600)]
    for p_value in ("p_randomisation", "p_bootstrap", "p_value"):
        share = np.mean([getattr(one, p_value) <= 0.05 for one in found])
        assert 0.02 < share < 0.085, p_value  # 0.05 give or take four standard errors; discrete ones stay below
    assert 0.9 < np.mean([one.low <= 0 <= one.high for one in found]) < 0.98


@pytest.mark.parametrize("score", ["bleu", "chrf", "macro_f1"])
def test_corpus_scores_of_like_systems_differ_in_one_test_of_twenty(
    score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "BOOTSTRAP_SAMPLES", 2)
    monkeypatch.setattr(significance, "RANDOMISATION_TRIALS", 99)
    generator = random.Random(0)
    found = []
    for _ in range(250):
        if score == "macro_f1":
            references = generator.choices("ABCD", k=60)
            systems = [labels(references, 0.5, generator.getrandbits(30)) for _ in range(2)]
        else:
            references = sentences(12, generator.getrandbits(30))
            systems = [noisy(references, 0.4, generator.getrandbits(30)) for _ in range(2)]
        found.append(compared(score, systems[:1], systems[1:], references, "en").p_value)
    assert 0.01 < np.mean(np.array(found) <= 0.05) < 0.09  # three standard errors of 250 pairs


def test_a_true_difference_is_found() -> None:
    references = sentences(60)
    found = compared("bleu", [noisy(references, 0.6, 1)], [noisy(references, 0.2, 2)], references)
    assert found.low > 0 and found.p_value < 0.001 and found.p_bootstrap < 0.01


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])
    assert holm([0.03]) == [0.03] and holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_its_step_down_procedure_does(p_values: list[float]) -> None:
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - rank) * p_values[index] > 0.05:
            break
        rejected.add(index)
    assert {index for index, adjusted in enumerate(holm(p_values)) if adjusted <= 0.05} == rejected
    assert all(adjusted >= p_value for adjusted, p_value in zip(holm(p_values), p_values, strict=True))


def test_a_summary_over_seeds() -> None:
    summary = summarise_seeds([20.0, 22.0, 27.0])
    assert (summary.mean, summary.n) == (23, 3) and summary.deviation == pytest.approx(13**0.5)
    assert summarise_seeds([20.0]) == significance.SeedSummary(20.0, None, 1)


def test_an_option_that_no_reference_is_counts_for_macro_f1() -> None:
    answers, truths = list("AB") * 10, list("AB") * 10
    offered = TestSet(truths, options=[("A", "B", "X")] * 20)
    found = compare_systems("macro_f1", [answers[::-1]], [answers], offered)
    assert found.system == pytest.approx(100 * 2 / 3)  # of three labels one is never right


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 2 seeds"):
        compared("bleu", [["a"]], [["a"], ["b"]], ["a"])
    with pytest.raises(ValueError, match="0 examples"):
        compared("bleu", [[]], [[]], [])
    with pytest.raises(ValueError, match="one output for each of the 2 references"):
        compared("accuracy", [["a"]], [["a"]], ["a", "b"])
    with pytest.raises(ValueError, match="give segments of both"):
        compared("comet", [["a"]], [["a"]], ["a"])
