"""The recipe of docs/architecture.md followed once: one class and one line, and all that derives from them."""

from __future__ import annotations

import pytest

from tests.metrics.scoring import compared, scored
from warmup.command_line import FACTS
from warmup.metrics import registry
from warmup.metrics.metric import Metric, Score, ScoreKind, ScoringSettings, SufficientStatistics, Texts
from warmup.metrics.registry import METRICS, larger_is_better, score_kinds, score_order, score_title
from warmup.metrics.significance import NoExampleScores


class LengthError(Metric):
    """Letters too many or too few, per 100 letters of the references."""

    name = "length_error"
    scores = (ScoreKind("length_error", "length error", larger_is_better=False), ScoreKind("empty", "empty answers"))
    tasks = ("summarization",)

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        found = self.statistics(texts, settings)
        assert found is not None
        error = Score(float(found.score_of(found.terms.sum(axis=0))), "letters")
        return {"length_error": error, "empty": Score.mean([100.0 * (not p) for p in texts.predictions], "letters")}

    def statistics(self, texts: Texts, settings: ScoringSettings) -> SufficientStatistics | None:
        import numpy as np

        pairs = zip(texts.predictions, texts.references, strict=True)
        terms = np.array([[abs(len(answer) - len(truth)), len(truth)] for answer, truth in pairs], dtype=float)
        return SufficientStatistics(terms, lambda sums: 100 * sums[..., 0] / sums[..., 1])


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.METRICS, "length_error", LengthError())


@pytest.mark.usefixtures("_registered")
def test_a_registered_metric_is_known_everywhere() -> None:
    assert FACTS.metrics_for("summarization", False) == ["rouge", "length_error", "chrf", "bertscore"]
    assert FACTS.metrics_for("custom", False)[-1] == "length_error"
    assert "length_error" not in FACTS.metrics_for("translation", False)
    assert FACTS.selection_scores(["comet", "length_error"]) == ["length_error", "empty"]
    assert list(score_kinds())[-2:] == ["length_error", "empty"]
    assert score_title("length_error") == "length error ↓" and score_title("empty") == "empty answers"
    assert sorted(["of another version", "empty", "bleu"], key=score_order) == ["bleu", "empty", "of another version"]
    evaluation = scored(["length_error"], ["abc", ""], ["ab", "abcd"])
    assert {name: score.value for name, score in evaluation.scores.items()} == {
        "length_error": pytest.approx(100 * 5 / 6),
        "empty": 50.0,
    }
    assert evaluation.segment_scores() == {"empty": [0.0, 100.0]}


@pytest.mark.usefixtures("_registered")
def test_its_own_statistics_are_what_is_tested() -> None:
    references = ["abcd", "ab"] * 10
    found = compared("length_error", [["abc"] * 20], [references], references)
    assert found.difference == pytest.approx(-100 * 20 / 60) and found.p_value < 0.01
    assert found.p_exact is None and found.low < found.difference < found.high < 0


def test_a_score_of_another_version_is_tested_over_what_its_run_kept() -> None:
    answers = [["a"] * 20]
    with pytest.raises(NoExampleScores):
        compared("unknown", answers, answers, ["a"] * 20)
    found = compared("unknown", answers, answers, ["a"] * 20, None, ([[1.0] * 20], [[2.0] * 20]))
    assert found.difference == 1 and found.p_value < 0.01 and larger_is_better("unknown")


def test_names_are_told_apart() -> None:
    names = [name for metric in METRICS.values() for name in metric.score_names]
    assert len(set(names)) == len(names), "a score belongs to one metric"
