"""Every metric there is: the one place where a new one is registered, and the lookups by its name and its scores'."""

from __future__ import annotations

from warmup.metrics.labels import Accuracy, MacroF1
from warmup.metrics.metric import Metric, ScoreKind
from warmup.metrics.neural import BertScore, Comet
from warmup.metrics.overlap import Bleu, ChrF, Rouge, Ter

# By name, in the order in which tables show their scores.
METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (Bleu(), ChrF(), Ter(), Rouge(), Accuracy(), MacroF1(), Comet(), BertScore())
}
SCALE = "in percent (COMET times 100)"


def score_kinds(with_models: bool = True) -> dict[str, ScoreKind]:
    """Every score by name, in the tables' order; without those of metrics that load a model, if they are not wanted."""
    metrics = [metric for metric in METRICS.values() if with_models or not metric.loads_model]
    return {kind.name: kind for metric in metrics for kind in metric.scores}


def metric_of(score: str) -> Metric | None:
    """The metric that gives a score; None for one that nobody registered, as a run of another version may have."""
    return next((metric for metric in METRICS.values() if score in metric.score_names), None)


def larger_is_better(score: str) -> bool:
    """The direction of a score; an unknown one is taken for a share of what is right."""
    kind = score_kinds().get(score)
    return kind is None or kind.larger_is_better


def score_title(score: str) -> str:
    """A score as papers write it, with an arrow down where smaller is better; an unknown one by its name."""
    kind = score_kinds().get(score)
    return score if kind is None else kind.title + ("" if kind.larger_is_better else " ↓")


def score_limits(score: str) -> tuple[float | None, float | None]:
    """The least and the largest value that a score can have; None where there is none, or nobody knows."""
    kind = score_kinds().get(score)
    return (None, None) if kind is None else kind.limits


def score_order(score: str) -> tuple[int, str]:
    """A sorting key: the registry's order, unknown scores last."""
    names = list(score_kinds())
    return (names.index(score) if score in names else len(names), score)
