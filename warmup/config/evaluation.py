"""Decoding, and the models of the neural metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmup.config.fields import number
from warmup.errors import UserError, wrong_value


@dataclass
class EvaluationConfig:
    """Two-phase decoding: the warmup, then the target; and the models of the neural metrics."""

    batch_size: int = number(64, 1, 65536)  # inputs decoded at a time, and examples that a neural metric scores
    num_beams: int = number(1, 1, 64)  # of the target; 1 is greedy
    warmup_num_beams: int = number(1, 1, 64)
    sample_warmup: bool = False  # drawn instead of greedy or by beam
    num_warmups: int = number(1, 1, 256)  # M; above 1 they are drawn, and their marginal likelihood picks the answer
    substituted_examples: int = number(500, 0)  # of the test set, the first; answered again given other warmups
    length_penalty: float = number(1.0, -10.0, 10.0)
    comet_model: str = "Unbabel/wmt22-comet-da"  # hub name, model.ckpt, or the folder that holds checkpoints/model.ckpt
    bertscore_model: str = "roberta-large"  # hub name or folder
    bertscore_layer: int | None = number(None, 0, 1000)  # None: bert_score's recommendation, else the last
    bertscore_rescale: bool = False  # with bert_score's own baseline for the model and the target language

    def check(self) -> None:
        """See that warmups are either drawn or searched for.

        Raises:
            UserError: both.
        """
        for key, draws in (("num_warmups", self.num_warmups > 1), ("sample_warmup", self.sample_warmup)):
            if draws and self.warmup_num_beams > 1:
                value = str(getattr(self, key)).lower()
                raise UserError(
                    f"evaluation.{key}={value} draws warmups, evaluation.warmup_num_beams={self.warmup_num_beams} "
                    f"searches for one; allowed: one of them (evaluation.warmup_num_beams=1 with evaluation.{key})"
                )

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
