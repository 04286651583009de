"""Accuracy and macro F1 of answers that should be labels, and what answers reach that ignore the question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from warmup.errors import wrong_value
from warmup.metrics.metric import (
    Metric,
    Score,
    ScoreKind,
    ScoringSettings,
    SufficientStatistics,
    Texts,
    mean_of_examples,
)

if TYPE_CHECKING:
    from warmup.metrics.metric import Array


class Accuracy(Metric):
    """The share of answers that equal their label; an answer that is no label is wrong."""

    name = "accuracy"
    scores = (ScoreKind("accuracy", "accuracy"),)
    tasks = ()  # those with options
    needs_labels = True

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """Exact, after stripping."""
        answers, truths, labels = answers_and_labels(texts)
        right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
        signature = f"accuracy|{_rule(labels)}"
        chance = label_chance(truths, texts.options or [labels] * len(truths))[self.name]
        return {self.name: Score(100 * right / len(truths), signature, chance=chance)}

    def statistics(self, texts: Texts, settings: ScoringSettings) -> SufficientStatistics:
        """Each example's 0 or 100, which the exact test takes."""
        return mean_of_examples(self.example_scores(self.name, texts, settings), exact=True)

    def example_scores(self, score: str, texts: Texts, settings: ScoringSettings) -> list[float]:
        """100 where the answer is right, else 0."""
        answers, truths, _ = answers_and_labels(texts)
        return [100.0 * (answer == truth) for answer, truth in zip(answers, truths, strict=True)]


class MacroF1(Metric):
    """The mean F1 of the labels; an answer that is no label costs its true class recall."""

    name = "macro_f1"
    scores = (ScoreKind("macro_f1", "macro F1"),)
    tasks = ()  # those with options
    package = "scikit-learn"
    needs_labels = True
    stand_in = "accuracy"  # of one answer macro F1 is no number

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """A label that nobody gives counts 0."""
        from sklearn.metrics import f1_score

        answers, truths, labels = answers_and_labels(texts)
        value = f1_score(truths, answers, labels=labels, average="macro", zero_division=0)
        signature = f"scikit-learn:{version('scikit-learn')}|average:macro|{_rule(labels)}"
        chance = label_chance(truths, texts.options or [labels] * len(truths))[self.name]
        return {self.name: Score(100 * float(value), signature, chance=chance)}

    def statistics(self, texts: Texts, settings: ScoringSettings) -> SufficientStatistics:
        """Per example and label: right answers, answers, references; [examples, 3 * labels]."""
        import numpy as np

        answers, truths, labels = answers_and_labels(texts)
        answered = np.array(answers)[:, None] == np.array(labels)
        true = np.array(truths)[:, None] == np.array(labels)
        terms = np.concatenate([answered & true, answered, true], axis=1).astype(float)
        return SufficientStatistics(terms, _macro_f1)


def _macro_f1(sums: Array) -> Array:
    """Percent; a label that neither an answer nor a reference has counts 0, as in scikit-learn's zero_division=0."""
    import numpy as np

    right, answered, true = np.split(sums, 3, axis=-1)
    of_labels: Array = 2 * right / np.maximum(answered + true, 1)
    return 100 * of_labels.mean(axis=-1)


def answers_and_labels(texts: Texts) -> tuple[list[str], list[str], list[str]]:
    """Answers and truths as they are compared (stripped, then exactly), and the labels.

    The labels are all that `texts.options` offer; without options those that the references have.

    Raises:
        UserError: a reference is none of its example's options.
    """
    answers = [prediction.strip() for prediction in texts.predictions]
    truths = [reference.strip() for reference in texts.references]
    if texts.options is None:
        return answers, truths, sorted(set(truths))
    for number, (truth, offered) in enumerate(zip(truths, texts.options, strict=True), start=1):
        if truth not in offered:
            raise wrong_value(f"the reference of example {number}", truth, f"one of its options {', '.join(offered)}")
    return answers, truths, list(dict.fromkeys(label for offered in texts.options for label in offered))


def share_without_label(texts: Texts) -> float:
    """The share (0 to 1) of answers that are none of the labels, or of their example's options."""
    answers, truths, labels = answers_and_labels(texts)
    options = texts.options or [labels] * len(truths)
    return sum(answer not in own for answer, own in zip(answers, options, strict=True)) / len(answers)


def _rule(labels: Sequence[str]) -> str:
    shown = ",".join(labels) if len(labels) <= 10 else str(len(labels))
    return f"labels:{shown}|no label:wrong|match:exact, stripped"


def label_chance(truths: Sequence[str], options: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """What answers that ignore the question score, in percent.

    "uniform" guesses each of an example's `options` with equal probability: its accuracy is the exact expectation, the
    mean of 1 / number of options; its F1 takes each class's expected right answers and expected answers. "majority"
    always gives the most frequent of `truths`: recall 1, precision its share, and no other class is ever right.
    """
    n, counts = len(truths), Counter(truths)
    right: dict[str, float] = defaultdict(float)
    guessed: dict[str, float] = defaultdict(float)
    for (own, truth), count in Counter(zip(map(tuple, options), truths, strict=True)).items():
        right[truth] += count / len(own) / n
        for label in own:
            guessed[label] += count / len(own) / n
    uniform_f1 = sum(2 * right[label] / (counts[label] / n + guessed[label]) for label in guessed) / len(guessed)
    majority = max(counts.values()) / n
    return {
        "accuracy": {"uniform": 100 * sum(right.values()), "majority": 100 * majority},
        "macro_f1": {"uniform": 100 * uniform_f1, "majority": 100 * (2 * majority / (1 + majority)) / len(guessed)},
    }
