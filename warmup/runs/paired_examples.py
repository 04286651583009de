"""A run's answers example by example, with SFT's beside them: each one's score, and the gain of warmup over SFT."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import regex

from warmup.errors import UserError
from warmup.metrics.metric import ScoringSettings, Texts
from warmup.metrics.registry import larger_is_better, metric_of, score_order
from warmup.metrics.score_cache import cached_scores
from warmup.metrics.significance import NoExampleScores
from warmup.runs.comparison import group_runs
from warmup.runs.finding import Run, newest_runs
from warmup.runs.metrics_records import SegmentScores
from warmup.runs.paired_tests import VERSIONS, target_language_of
from warmup.runs.predictions import Predictions, read_predictions

# A word: letters, marks and digits; in scripts that are written without spaces, a character. JavaScript reads it too.
UNSPACED = r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}]"
WORD = rf"{UNSPACED}\p{{M}}*|(?:(?!{UNSPACED})[\p{{L}}\p{{M}}\p{{N}}_])+"
_WORD = regex.compile(WORD)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return [*map(str.lower, _WORD.findall(text))]


@lru_cache(maxsize=4)  # of one run's warmups, and the texts of its test set, which the next run mostly shares
def words_of_each(texts: tuple[str, ...]) -> list[list[str]]:
    """The words of each text."""
    return [words(text) for text in texts]


@lru_cache(maxsize=4)
def different_words(texts: tuple[str, ...]) -> list[set[str]]:
    """The words of each text, each once."""
    return [set(found) for found in words_of_each(texts)]


@dataclass(frozen=True)
class PairedExamples:
    """One run's answers in the test set's order; lists of one length.

    Attributes:
        sft: the SFT run beside it; None where there is none, and for an SFT run itself.
        score: the name of the per-example score; None where none can be had.
        warmups: None for an SFT run's.
        sft_predictions: None where SFT did not answer that example.
        gains: by how much this run's score is better than SFT's, in percent; None where either is missing.
    """

    run: Run
    sft: Run | None
    score: str | None
    sources: Sequence[str]
    references: Sequence[str]
    warmups: Sequence[str | None]
    predictions: Sequence[str]
    sft_predictions: Sequence[str | None]
    gains: Sequence[float | None]

    @cached_property
    def overlaps(self) -> list[float | None]:
        """For each example the share of the warmup's words that the reference has; None for a warmup without words."""
        of_warmups = words_of_each(tuple(warmup or "" for warmup in self.warmups))
        pairs = zip(of_warmups, different_words(tuple(self.references)), strict=True)
        return [sum(token in known for token in tokens) / len(tokens) if tokens else None for tokens, known in pairs]


def reversed_gains(scores: Iterable[str | None]) -> str:
    """A sentence where smaller is better for one of `scores`; else empty."""
    reverse = any(score and not larger_is_better(score) for score in scores)
    return "With ↓, where smaller is better, a gain is SFT's score minus warmup's." if reverse else ""


def partners(runs: Sequence[Run]) -> list[tuple[Run, Run | None]]:
    """Each warmup run with the SFT run of its experiment (of its seed, else the first), then the SFT runs left over."""
    pairs: list[tuple[Run, Run | None]] = []
    taken = set()
    for group in group_runs(newest_runs(runs)[0]):
        for run in group.warmup:
            same = [sft for sft in group.sft if sft.seed == run.seed] or group.sft
            pairs.append((run, same[0] if same else None))
            taken |= {same[0].folder} if same else set()
    alone = [run for run in newest_runs(runs)[0] if run.method == "sft" and run.folder not in taken]
    return [*pairs, *((run, None) for run in alone)]


def pair_examples(run: Run, sft: Run | None) -> PairedExamples:
    """Lay the answers of both runs beside each other by source and reference; a repeated source is taken in turn.

    Raises:
        UserError: the run's own predictions cannot be read.
    """
    mine = read_predictions(run)
    score, scores = example_scores(run, mine)
    theirs: list[tuple[str, float] | None] = [None] * len(mine.sources)
    if sft is not None:
        try:
            theirs = _beside(mine, sft, score)
        except UserError:
            sft = None  # the tables' notes say what is wrong with it
    gains: list[float | None] = [None] * len(theirs)
    if scores is not None:
        pairs = zip(scores, theirs, strict=True)
        sign = 1 if score is None or larger_is_better(score) else -1
        gains = [None if other is None else sign * (own - other[1]) for own, other in pairs]
    return PairedExamples(
        run,
        sft,
        score,
        mine.sources,
        mine.references,
        mine.warmups,
        mine.predictions,
        [None if other is None else other[0] for other in theirs],
        gains,
    )


def _beside(mine: Predictions, sft: Run, score: str | None) -> list[tuple[str, float] | None]:
    """SFT's answer to each example and its score.

    Raises:
        UserError: there are no answers that can be read, or none that have the score.
    """
    other = read_predictions(sft)
    same, scores = example_scores(sft, other)
    if same != score:
        raise UserError(f"{sft.folder} has no {score} of each example")
    scores = scores or [0.0] * len(other.sources)  # without a score there is no gain either
    places: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for place, key in enumerate(zip(other.sources, other.references, strict=True)):
        places[key].append(place)
    found: list[tuple[str, float] | None] = []
    for key in zip(mine.sources, mine.references, strict=True):
        waiting = places[key]
        answer = waiting.popleft() if waiting else None
        found.append(None if answer is None else (other.predictions[answer], scores[answer]))
    return found


def example_scores(run: Run, answers: Predictions) -> tuple[str | None, Sequence[float] | None]:
    """The name and the values, in percent, of the score that tells one example's answer from a better one."""
    chosen = run.selection_metric or min(run.scores, key=score_order, default="")
    metric = metric_of(chosen)
    score = metric and metric.stand_in or chosen
    stored = _stored(run, score)
    if stored is not None and len(stored) == len(answers.sources):
        return score, stored
    metric = metric_of(score)
    if metric is None or metric.loads_model:
        return None, None
    texts = Texts(answers.predictions, answers.references, answers.sources)
    settings = ScoringSettings(target_language_of(run))

    def computed() -> list[float]:
        found = metric.example_scores(score, texts, settings)
        if found is None:
            raise NoExampleScores(score)
        return found

    try:
        if metric.needs_labels:  # quicker than to look it up
            return score, computed()
        signature = f"{score} of each example|{settings.target_language}|{VERSIONS}"
        return score, cached_scores(score, signature, [texts.predictions, texts.references], computed)
    except (ImportError, NoExampleScores):
        return None, None


def _stored(run: Run, score: str) -> Sequence[float] | None:
    try:
        return SegmentScores.read(run.folder).scores.get(score)
    except UserError:  # which finding the run has named
        return None
