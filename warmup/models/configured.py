"""The model that a configuration names: built, loaded, or as a checkpoint was trained."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from warmup.answering.answer import Limits
from warmup.config.schema import Config, WarmupMethod
from warmup.data.examples import Example, Wording
from warmup.models.loading import (
    FORMAT,
    SEPARATOR,
    Backbone,
    build_fresh,
    check_lengths,
    load_pretrained,
    load_settings,
)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AnsweringModel:
    """A model with the lengths and the wording that it answers with."""

    backbone: Backbone
    limits: Limits
    wording: Wording

    @property
    def method(self) -> str:
        """`sft` or `warmup`."""
        return "sft" if self.limits.warmup is None else "warmup"


def untrained_model(config: Config, examples: Sequence[Example]) -> AnsweringModel:
    """What a training on `examples` begins with."""
    return AnsweringModel(fresh_or_pretrained(config, examples), limits_of(config), Wording.from_config(config.task))


def fresh_or_pretrained(config: Config, examples: Sequence[Example]) -> Backbone:
    """The model to be trained on `examples`, as it comes."""
    if config.model.pretrained:
        languages = (config.task.source_language, config.task.target_language)
        return load_pretrained(config.model.pretrained, config.model.revision, languages)
    texts = [text for example in examples for text in (example.prompt, example.target or "")]
    limits = limits_of(config)
    return build_fresh(config.model, texts, limits.source + (limits.warmup or 0) + 1 + limits.target)


def trained_model(config: Config, device: str) -> AnsweringModel:
    """The checkpoint, on `device`, with what it was trained with; where it does not say, the configuration decides."""
    path = config.checkpoint or config.model.pretrained
    assert path is not None
    settings = load_settings(path)
    languages = (config.task.source_language, config.task.target_language) if settings is None else (None, None)
    backbone = load_pretrained(path, None if config.checkpoint else config.model.revision, languages)
    backbone.model.to(device)
    if settings is None:
        log.info("%s has no warmup_config.json: it is decoded directly, without a warmup", path)
        limits, wording = dataclasses.replace(limits_of(config), warmup=None), Wording.from_config(config.task)
    else:
        limits, wording = Limits(**settings["limits"]), Wording(**settings["wording"])
    model = AnsweringModel(backbone, limits, wording)
    check_model_lengths(model)
    return model


def check_model_lengths(model: AnsweringModel, shown: bool = False) -> None:
    """Raises UserError where the model cannot read and write as much; `shown`: it reads the target too."""
    check_lengths(model.backbone, model.limits.source, model.limits.warmup, model.limits.target, shown)


def limits_of(config: Config) -> Limits:
    """The length limits of a configuration."""
    warmup = config.method.max_warmup_tokens if isinstance(config.method, WarmupMethod) else None
    return Limits(config.task.max_source_tokens, warmup, config.task.max_target_tokens)


def settings_of(config: Config) -> dict[str, Any]:
    """What warmup_config.json says: all that is needed to answer with the model."""
    return {
        "format": FORMAT,
        "method": config.method.name,
        "separator": SEPARATOR,
        "limits": dataclasses.asdict(limits_of(config)),
        "wording": dataclasses.asdict(Wording.from_config(config.task)),
    }
