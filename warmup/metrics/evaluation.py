"""The scores of one set of answers, and whether the one that picks the checkpoint exists, before a training starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from warmup.config.facts import Facts
from warmup.config.schema import TaskConfig
from warmup.errors import UserError, nearest, wrong_value
from warmup.metrics.labels import share_without_label
from warmup.metrics.metric import Score, ScoringSettings, Texts
from warmup.metrics.registry import METRICS

log = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """All scores of one set of answers.

    Attributes:
        scores: by name, e.g. "rougeL".
        skipped: score name -> one line that says why there is no number.
        notes: lines on what a number here does not see.
        invalid_answers: share (0 to 1) of answers that are no label; None where no label was asked for.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    invalid_answers: float | None = None

    @property
    def chance(self) -> dict[str, dict[str, float]]:
        """For a score of labels, what two ways of not reading the question score, in percent.

        {"uniform": guessing every label alike, "majority": always the references' most frequent label}.
        """
        return {name: dict(score.chance) for name, score in self.scores.items() if score.chance}

    def segment_scores(self) -> dict[str, list[float]]:
        """Score name -> each example's score, in percent, for the scores that are means over examples."""
        return {name: list(score.segments) for name, score in self.scores.items() if score.segments is not None}


def compute_metrics(metrics: Sequence[str], texts: Texts, settings: ScoringSettings | None = None) -> Evaluation:
    """Score `texts` with each of `metrics` (names of `METRICS`); a metric that gives no score lands in `skipped`.

    Raises:
        UserError: there is no example to score, or a metric or a language that does not exist.
    """
    if not texts.predictions:
        raise UserError("there is no example to score: the split is empty, choose another or enlarge it")
    evaluation, settings = Evaluation(), settings or ScoringSettings()
    for name in metrics:
        if name not in METRICS:
            raise wrong_value("task.metrics", name, ", ".join(METRICS), nearest(name, METRICS))
        metric = METRICS[name]
        results = _scores_of(name, texts, settings)
        if isinstance(results, str):
            evaluation.skipped.update(dict.fromkeys(metric.score_names, results))
            continue
        evaluation.scores.update(results)
        if note := metric.note(texts.references, settings):
            evaluation.notes.append(note)
        if metric.needs_labels:
            evaluation.invalid_answers = share_without_label(texts)
    return evaluation


def _scores_of(name: str, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
    metric = METRICS[name]
    if metric.needs_sources and texts.sources is None:
        return f"{metric.title} reads the sources too, and there are none; give them with sources=FILE"
    try:
        return metric.score(texts, settings)
    except ImportError as error:
        return f"the library is not there ({error}); pip install {metric.package}"


def check_selection_metric(task: TaskConfig, references: Sequence[str]) -> None:
    """Make sure that the score which picks the checkpoint exists for `references`; say what it does not see of them.

    Raises:
        UserError: it does not; the line says why, and which metric of this task to take instead.
    """
    texts, settings = Texts(references, references), ScoringSettings(task.target_language)
    metric = next(name for name in task.metrics if task.selection_metric in METRICS[name].score_names)
    evaluation = compute_metrics([metric], texts, settings)
    for note in evaluation.notes:
        log.warning("%s", note)
    reason = evaluation.skipped.get(task.selection_metric)
    if reason is None:
        return
    allowed = Facts(METRICS).metrics_for(task.name, task.has_options)
    suited = [name for name in allowed if not METRICS[name].loads_model]
    # chrF++ first: it reads every script, and needs no language
    others = sorted([name for name in suited if name != metric], key=lambda name: name != "chrf")
    other = next((name for name in others if compute_metrics([name], texts, settings).scores), None)
    cure = ""
    if other:
        metrics = ",".join([other, *(name for name in task.metrics if name not in (metric, other))])
        cure = f"; allowed: 'task.metrics=[{metrics}]' task.selection_metric={METRICS[other].score_names[0]}"
    raise UserError(f"task.selection_metric is {task.selection_metric!r}, which has no score here: {reason}{cure}")
