"""Hydra as it is when a command begins, for tests that plan jobs in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from warmup.command_line import prepare
from warmup.config.groups import CONF


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Initialized with our configuration, and left as if it had never been."""
    monkeypatch.setattr("sys.argv", ["train.py"])
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None
