"""The order of examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from warmup.training.batches import ShuffledSampler


@pytest.mark.parametrize("count", [1, 5, 33, 1000, 4001])
@pytest.mark.parametrize("batch_size", [1, 8, 16])
def test_grouping_by_length_is_the_librarys(count: int, batch_size: int) -> None:
    lengths = np.random.default_rng(count).integers(1, 20, count)  # many are as long as others
    order = ShuffledSampler(lengths, batch_size, group_by_length=True, seed=2)
    order.set_epoch(3)
    generator = torch.Generator().manual_seed(2 * 1_000_003 + 3)
    expected = get_length_grouped_indices(lengths.tolist(), batch_size, generator=generator)
    (found,) = order.windows()
    assert found.tolist() == expected
