"""What a metric is: its names, what it reads, its scores, and what the paired tests resample.

A new one is a subclass of `Metric` in a file of its own and a line in `registry`; docs/architecture.md has the recipe.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from warmup.config.schema import EvaluationConfig

if TYPE_CHECKING:  # numpy takes a while, and --help need not wait for it
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """What is scored: one text per example in each list, in one order; `sources` is None where nobody gave any.

    `options` are the labels that each example's answer is one of; None where the references say which there are.

    Raises:
        ValueError: the lists differ in length.
    """

    predictions: Sequence[str]
    references: Sequence[str]
    sources: Sequence[str] | None = None
    options: Sequence[Sequence[str]] | None = None

    def __post_init__(self) -> None:
        if not len(self.predictions) == len(self.references) == len(self.sources or self.references):
            given = {"predictions": self.predictions, "references": self.references, "sources": self.sources or []}
            lengths = ", ".join(f"{len(texts)} {name}" for name, texts in given.items())
            raise ValueError(f"{lengths}: there must be one of each per example")


@dataclass(frozen=True)
class ScoringSettings:
    """How texts are scored.

    Attributes:
        target_language: the references' language by code or name; picks BLEU's tokenizer and BERTScore's baseline.
        device: where a metric's model runs, "cpu" or "cuda".
        evaluation: which models the neural metrics are, and how many examples they score at a time.
    """

    target_language: str | None = None
    device: str = "cpu"
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass(frozen=True)
class Score:
    """A number in percent and how it was computed.

    Attributes:
        signature: what reproduces the number: library, version, tokenizer, model.
        segments: each example's score where the number is their mean, None for a corpus score.
        chance: {"uniform": percent, "majority": percent} for a score of labels, else None.
    """

    value: float
    signature: str
    segments: tuple[float, ...] | None = field(default=None, repr=False)
    chance: Mapping[str, float] | None = None

    @classmethod
    def mean(cls, segments: Sequence[float], signature: str) -> Score:
        """The mean of at least one example's score."""
        return cls(statistics.fmean(segments), signature, tuple(segments))


@dataclass(frozen=True)
class ScoreKind:
    """A number that a metric gives: its name in configurations and records, as papers write it, and where it ends."""

    name: str
    title: str
    larger_is_better: bool = True
    limits: tuple[float | None, float | None] = (0, 100)


@dataclass(frozen=True)
class SufficientStatistics:
    """A corpus score as a function of sums over examples, as all of ours are: what the paired tests resample.

    Attributes:
        terms: [examples, statistics].
        score_of: maps sums [..., statistics] to scores [...], in percent.
        sacrebleu: its own metric, where sacrebleu has the score: the paired tests are then those of its `PairedTest`.
        is_mean: whether the score is the mean of the only term: then scipy tests it.
        exact: whether that term is 0 or 100: then there is an exact test too.
    """

    terms: Array
    score_of: Callable[[Array], Array]
    sacrebleu: Any = None
    is_mean: bool = False
    exact: bool = False


def mean_of_examples(values: Sequence[float], exact: bool = False) -> SufficientStatistics:
    """The score that is the mean of each example's; `values` [examples]."""
    import numpy as np

    n = len(values)
    terms = np.array(values, dtype=float)[:, None]
    return SufficientStatistics(terms, lambda sums: sums[..., 0] / n, is_mean=True, exact=exact)


class Metric(ABC):
    """One metric, whole: everything else (choices, checks, tables, figures, tests, dashboards) derives from it.

    Libraries are imported where they are used: together they take seconds. An ImportError becomes a reason that names
    `package`.

    Attributes:
        name: what `task.metrics` calls it.
        scores: the numbers that it gives; the first is suggested as `task.selection_metric`.
        tasks: the tasks that it suits, the one that it is mostly used for first; a custom task may use any metric.
        package: what pip calls its library; empty where it needs none.
        needs_sources: whether it reads the sources too.
        needs_labels: whether the answers should be labels; what share is none is then told.
        loads_model: a model of its own is too slow for every evaluation on the dev set, so it picks no checkpoint, and
            for a report, which takes its scores from the run's record or leaves them out.
        model_key: the key in `evaluation` that names its model; empty where there is none.
        stand_in: the score that tells one example's answer from a better one, where its own is no number for that.
    """

    name: str
    scores: tuple[ScoreKind, ...]
    tasks: tuple[str, ...]
    package: str = ""
    needs_sources: bool = False
    needs_labels: bool = False
    loads_model: bool = False
    model_key: str = ""
    stand_in: str = ""

    @property
    def score_names(self) -> list[str]:
        """Of its scores, in their order."""
        return [kind.name for kind in self.scores]

    @property
    def title(self) -> str:
        """As papers write it."""
        return self.scores[0].title

    @abstractmethod
    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """A score for each of `scores`, by name; or, in one line, the reason why there is none.

        There is at least one example. An empty prediction is an ordinary, bad answer: it lowers a score and never makes
        it undefined.
        """

    def note(self, references: Sequence[str], settings: ScoringSettings) -> str:
        """In one line what the number does not see of these references; empty where it sees all."""
        return ""

    def statistics(self, texts: Texts, settings: ScoringSettings) -> SufficientStatistics | None:
        """The score in the answers' own terms; None for a mean over examples, whose scores are in the run's record."""
        return None

    def example_scores(self, score: str, texts: Texts, settings: ScoringSettings) -> list[float] | None:
        """One of its scores, for each example on its own; None where there is none."""
        found = self.score(texts, settings)
        segments = None if isinstance(found, str) else found[score].segments
        return None if segments is None else list(segments)
