"""Every wrong value dies here, when the configuration is composed, before anything heavy starts."""

from __future__ import annotations

import dataclasses

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from warmup.config.cross_checks import check_sections, check_toy_language
from warmup.config.environment import check_environment
from warmup.config.facts import Facts
from warmup.config.fields import check_value, fields_of
from warmup.config.schema import Config
from warmup.errors import UserError, first_line


def check(composed: DictConfig, facts: Facts) -> Config:
    """The typed configuration, once every value in it has been found good; `facts` are those of later rooms.

    Raises:
        UserError: naming the key, what it was and what is allowed.
    """
    config = _typed(composed)
    check_environment(composed)
    for key, value, field in fields_of(config):
        check_value(key, value, field)
    config.task.check(facts, trains=config.run in ("all", "train"))
    check_toy_language(config)
    config.data.check(config.run, config.task.hub)
    config.model.check()
    config.method.check()
    config.trainer.check()
    config.evaluation.check()
    config.logger.check()
    check_sections(config, facts)
    return config


def _typed(composed: DictConfig) -> Config:
    for own in dataclasses.fields(Config):
        if own.name not in composed:  # `~key` gets past Hydra's own check
            raise UserError(f"{own.name} was taken away (~{own.name}); allowed: to set it, {own.name}=VALUE")
    try:
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} is not set: give it as {error.full_key}=VALUE") from error
    except InterpolationKeyError as error:
        raise UserError(f"{error.full_key}: {error.msg}") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {first_line(error)}") from error
    assert isinstance(config, Config)
    return config
