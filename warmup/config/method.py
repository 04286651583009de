"""How the model is trained and answers, and which choices of the warmup method go together."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from warmup.config.fields import choice, number
from warmup.errors import wrong_value


@dataclass
class MethodConfig:
    """How the model is trained and answers."""

    name: str = choice(MISSING, "sft", "pause", "warmup")

    def check(self) -> None:
        """See that the choices go together.

        Raises:
            UserError: naming the key, and what is allowed beside the other choices.
        """


@dataclass
class SftMethod(MethodConfig):
    """Supervised fine-tuning: the target straight from the source."""

    name: str = choice("sft", "sft")
    label_smoothing: float = 0.0  # the share of each label that all words of the output layer get alike

    def check(self) -> None:
        """As the base class says: refuses what would leave nothing of the labels."""
        if not 0 <= self.label_smoothing < 1:
            raise wrong_value("method.label_smoothing", self.label_smoothing, "at least 0.0 and below 1.0")


@dataclass
class PauseMethod(MethodConfig):
    """The control of the warmup method: as many tokens without content before the target.

    Copies of a learnt token stand where a warmup would (Goyal et al. 2023, arXiv 2310.02226); no loss is on them.
    """

    name: str = choice("pause", "pause")
    num_tokens: int = number(8, 1, 1024)


@dataclass
class WarmupMethod(MethodConfig):
    """A latent warmup before the target (docs/method.md)."""

    name: str = choice("warmup", "warmup")
    num_samples: int = number(4, 1, 256)  # K
    max_warmup_tokens: int = number(8, 1, 1024)
    objective: str = choice("marginal", "marginal", "vimco", "elbo", "resample")
    baseline: str = choice("mean", "mean", "loo", "none")  # of marginal and resample; the others bring their own
    warmup_temperature: float = number(1.0, 0.05, 20.0)  # of p(c|x) itself: nothing is made up for by weights
    warmup_top_p: float = number(1.0)  # likewise; above 0, up to 1
    sampler: str = choice("iid", "iid", "without_replacement", "adaptive", "recognition")
    sampling_temperature: float = number(1.0, 0.05, 20.0)  # of sampler=iid; other than 1 gets importance weights
    sampling_top_p: float = number(1.0, 0.01, 1.0)  # of sampler=iid; below 1 the likelihood is a lower bound
    # the tokens that warmups are made of, as a text; {source} stands for those of an input's source. None: all tokens
    warmup_vocabulary: str | None = None
    posterior_temperature: float = number(1.0, 1e-3, 1e3)
    entropy_coef: float = number(0.001, 0.0, 100.0)
    # Optimiser steps of plain SFT before the first warmup is sampled. None: half of all for a model built fresh,
    # whose first warmups would be noise, and none for a pretrained one.
    sft_steps: int | None = number(None, 0)

    def check(self) -> None:
        """As the base class says: refuses combinations whose gradient would be that of nothing."""
        objective, sampler = self.objective, self.sampler
        self._check_vocabulary()
        if not 0 < self.warmup_top_p <= 1:
            raise wrong_value("method.warmup_top_p", self.warmup_top_p, "above 0, up to 1.0")
        if self.warmup_top_p < 1 and sampler == "recognition":
            reason = "whose proposals lie outside the nucleus of p(c|x), and draws from p(c|x) outside theirs"
            allowed = f"1.0 with method.sampler=recognition, {reason}"
            raise wrong_value("method.warmup_top_p", self.warmup_top_p, allowed)
        bounds = objective in ("vimco", "elbo")
        if bounds and self.baseline == "none":
            raise wrong_value("method.baseline", "none", f"mean or loo with method.objective={objective}")
        if bounds and sampler in ("without_replacement", "recognition"):
            reason = "whose bound is of draws from the model itself"
            raise wrong_value("method.sampler", sampler, f"iid or adaptive with method.objective={objective}, {reason}")
        for key in ("sampling_temperature", "sampling_top_p"):
            value = getattr(self, key)
            if value != 1 and (bounds or sampler != "iid"):
                allowed = "1.0 unless method.sampler=iid and method.objective=marginal or resample, which weigh draws"
                raise wrong_value(f"method.{key}", value, allowed)
        if objective == "resample" and sampler in ("adaptive", "recognition"):
            raise wrong_value("method.sampler", sampler, "iid or without_replacement with method.objective=resample")
        if sampler == "adaptive" and self.num_samples < 3:
            raise wrong_value("method.num_samples", self.num_samples, "at least 3 with method.sampler=adaptive")

    def _check_vocabulary(self) -> None:
        """See that warmups have tokens to be made of, whoever proposes them."""
        text = self.warmup_vocabulary
        if text is None:
            return
        if not text.strip():
            raise wrong_value(
                "method.warmup_vocabulary", text, "a text, with {source} for an input's own tokens, or null"
            )
        if self.sampler == "recognition":
            raise wrong_value(
                "method.warmup_vocabulary", text, "null with method.sampler=recognition, which is shown more"
            )
