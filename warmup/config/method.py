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
    sampler: str = choice("iid", "iid", "without_replacement", "adaptive", "recognition")
    sampling_temperature: float = number(1.0, 0.05, 20.0)  # of sampler=iid; other than 1 gets importance weights
    sampling_top_p: float = number(1.0, 0.01, 1.0)  # of sampler=iid; below 1 the likelihood is a lower bound
    posterior_temperature: float = number(1.0, 1e-3, 1e3)
    entropy_coef: float = number(0.001, 0.0, 100.0)
    # Optimiser steps of plain SFT before the first warmup is sampled. None: half of all for a model built fresh,
    # whose first warmups would be noise, and none for a pretrained one.
    sft_steps: int | None = number(None, 0)

    def check(self) -> None:
        """As the base class says: refuses combinations whose gradient would be that of nothing."""
        objective, sampler = self.objective, self.sampler
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
