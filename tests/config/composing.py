"""Configurations as the command composes and checks them, and what it says of a wrong one."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from warmup.command_line import FACTS, prepare
from warmup.config.checks import check
from warmup.config.explain import explain_composition
from warmup.config.groups import CONF
from warmup.config.schema import Config
from warmup.errors import UserError


def configured(*overrides: str) -> Config:
    """The checked configuration; a wrong one raises what a user reads."""
    prepare()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return check(compose("config", list(overrides)), FACTS)
    except UserError:
        raise
    except Exception as error:
        raise explain_composition(overrides, False, error) from error


def refusal(*overrides: str) -> str:
    """The line that a user sees for these overrides."""
    with pytest.raises(UserError) as error:
        configured(*overrides)
    return str(error.value)
