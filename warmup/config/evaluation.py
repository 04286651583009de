"""Decoding, and the models of the neural metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmup.config.fields import choice, number
from warmup.errors import UserError, wrong_value


@dataclass
class EvaluationConfig:
    """Two-phase decoding: the warmup, then the target; and the models of the neural metrics."""

    batch_size: int = number(64, 1, 65536)  # inputs decoded at a time, and examples that a neural metric scores
    num_beams: int = number(1, 1, 64)  # of the target; 1 is greedy
    warmup_num_beams: int = number(1, 1, 64)
    sample_warmup: bool = False  # drawn instead of greedy or by beam
    num_warmups: int = number(1, 1, 256)  # M; above 1 they are drawn, and their marginal likelihood picks the answer
    # M of a model without warmups; above 1 they are the greedy target and M - 1 drawn ones, and the likeliest is taken
    num_candidates: int = number(1, 1, 256)
    answer_by: str = choice("generation", "generation", "likelihood")  # of a question with options: write, or choose
    substituted_examples: int = number(500, 0)  # of the test set, the first; answered again given other warmups
    length_penalty: float = number(1.0, -10.0, 10.0)
    min_new_tokens: int = number(0, 0)  # of the target, before it may end
    no_repeat_ngram_size: int = number(0, 0, 100)  # n: no n tokens twice in a target; 0 lets them
    forced_bos: str | None = None  # the token that a target begins with: of mBART the language that is written
    comet_model: str = "Unbabel/wmt22-comet-da"  # hub name, model.ckpt, or the folder that holds checkpoints/model.ckpt
    bertscore_model: str = "roberta-large"  # hub name or folder
    bertscore_layer: int | None = number(None, 0, 1000)  # None: bert_score's recommendation, else the last
    bertscore_rescale: bool = False  # with bert_score's own baseline for the model and the target language

    @property
    def ranks(self) -> bool:
        """Whether a model's answer is the best of several, and so a question's options are scored."""
        return self.num_warmups > 1 or self.num_candidates > 1 or self.answer_by == "likelihood"

    @property
    def generation_signature(self) -> str:
        """What, beside length limits and beams, a target must look like, as a score's signature has it; or nothing."""
        keys = ("min_new_tokens", "no_repeat_ngram_size", "forced_bos")
        return "|".join(f"{key}:{value}" for key in keys if (value := getattr(self, key)))

    def check(self) -> None:
        """See that warmups are either drawn or searched for, and candidates too.

        Raises:
            UserError: both.
        """
        candidates = self.num_candidates
        asked = self.generation_signature.partition(":")[0]
        if asked and (candidates > 1 or (asked == "forced_bos" and self.ranks)):
            allowed = "its default where answers are ranked by likelihood (evaluation.num_warmups, num_candidates)"
            raise wrong_value(f"evaluation.{asked}", getattr(self, asked), allowed)
        if candidates > 1 and self.num_beams > 1:
            raise UserError(
                f"evaluation.num_candidates={candidates} draws targets, evaluation.num_beams={self.num_beams} searches "
                "for one; allowed: one of them (evaluation.num_beams=1 with evaluation.num_candidates)"
            )
        if candidates > 1 and self.num_warmups not in (1, candidates):
            allowed = f"1, or evaluation.num_warmups={self.num_warmups}: as many with and without warmups"
            raise wrong_value("evaluation.num_candidates", candidates, allowed)
        for key, draws in (("num_warmups", self.num_warmups > 1), ("sample_warmup", self.sample_warmup)):
            if draws and self.warmup_num_beams > 1:
                value = str(getattr(self, key)).lower()
                raise UserError(
                    f"evaluation.{key}={value} draws warmups, evaluation.warmup_num_beams={self.warmup_num_beams} "
                    f"searches for one; allowed: one of them (evaluation.warmup_num_beams=1 with evaluation.{key})"
                )

    def check_candidates(self, writes_warmups: bool) -> None:
        """Several candidates are of a model without warmups; one with them has as many by `num_warmups`.

        Raises:
            UserError: a model that writes warmups, and one of them.
        """
        if writes_warmups and self.num_candidates > 1 and self.num_warmups == 1:
            allowed = "1 for a model that writes warmups, or the same number as evaluation.num_warmups"
            raise wrong_value("evaluation.num_candidates", self.num_candidates, allowed)

    def check_metric_model(self, key: str) -> None:
        """A mistyped path of a metric's model must not be found out after a day of training; hub names are the hub's.

        Raises:
            UserError: `key` names a path that is not there.
        """
        path = getattr(self, key)
        if _looks_like_a_path(path) and not Path(path).expanduser().exists():
            raise wrong_value(f"evaluation.{key}", path, "a hub name, or an existing file or folder")


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith(".ckpt") or name.count("/") > 1
