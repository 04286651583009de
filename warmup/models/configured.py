"""The model that a configuration names: built, loaded, or as a checkpoint was trained."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from warmup.config.schema import Config
from warmup.data.examples import Example
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.loading import Backbone, add_pause, build_fresh, check_lengths, load_pretrained

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AnsweringModel:
    """A model with the lengths and the wording that it answers with."""

    backbone: Backbone
    settings: CheckpointSettings


def untrained_model(config: Config, examples: Sequence[Example]) -> AnsweringModel:
    """What a training on `examples` begins with: fresh, or pretrained as it comes."""
    settings = CheckpointSettings.from_config(config)
    if config.model.pretrained:
        languages = (config.task.source_language, config.task.target_language)
        backbone = load_pretrained(config.model.pretrained, config.model.revision, languages)
    else:
        texts = [text for example in examples for text in (example.prompt, example.target or "")]
        limits = settings.limits
        longest = limits.source + (limits.warmup or limits.pauses or 0) + 1 + limits.target
        backbone = build_fresh(config.model, texts, longest)
    if settings.limits.pauses is not None:
        add_pause(backbone)
    return AnsweringModel(backbone, settings)


def trained_model(config: Config, device: str) -> AnsweringModel:
    """The checkpoint, on `device`, with what it was trained with; where it does not say, the configuration decides.

    Raises:
        UserError: it cannot be loaded, or cannot answer as the configuration asks.
    """
    path = config.checkpoint or config.model.pretrained
    assert path is not None
    settings = CheckpointSettings.read(path)
    languages = (config.task.source_language, config.task.target_language) if settings is None else (None, None)
    backbone = load_pretrained(path, None if config.checkpoint else config.model.revision, languages)
    backbone.model.to(device)
    if settings is None:
        log.info("%s has no warmup_config.json: it is decoded directly, without warmup or pauses", path)
        asked = CheckpointSettings.from_config(config)
        settings = dataclasses.replace(asked, limits=dataclasses.replace(asked.limits, warmup=None, pauses=None))
    config.evaluation.check_candidates(settings.limits.warmup is not None)
    check_lengths(backbone, settings.limits)
    return AnsweringModel(backbone, settings)
