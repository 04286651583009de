"""The model that the tests of a step share."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import WITH_BART
from warmup.models.backbone import Backbone


@pytest.fixture(params=WITH_BART)
def backbone(request: pytest.FixtureRequest, make_backbone) -> Backbone:
    """In float64, with warmups made of six tokens: some end early, some are equal."""
    found = make_backbone(request.param)
    found.model.double()
    forbidden = torch.ones_like(found.never_in_warmup)
    forbidden[[*range(20, 26), found.separator_id]] = False
    found.__dict__["never_in_warmup"] = forbidden
    return found
