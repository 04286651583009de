"""The model beside FSDP's, whose processes hold a part of each weight and take all forward passes together."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

from warmup.models.backbone import Backbone
from warmup.models.loading import load_weights

PREFIX = "model."  # of the model's weights in those of MethodModel
WHOLE = StateDictOptions(full_state_dict=True)


class PlainModel:
    """What decodes, is saved and is loaded: the model itself, or with FSDP a whole copy of it in each process."""

    def __init__(self, backbone: Backbone, plugin: Any) -> None:
        """`plugin` is accelerate's of FSDP; None without it."""
        self.backbone = backbone
        self.copy = None if plugin is None else copy.deepcopy(backbone.model)
        if plugin is not None:  # every process reads weights; else transformers leaves those of all but one empty
            plugin.cpu_ram_efficient_loading = False
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"

    @contextmanager
    def in_use(self, wrapped: nn.Module) -> Iterator[None]:
        """While the backbone is to be the plain model with the weights of `wrapped`; all processes call this."""
        if self.copy is None:
            yield
            return
        state = get_model_state_dict(wrapped, options=WHOLE)
        self.copy.load_state_dict({name.removeprefix(PREFIX): value for name, value in state.items()})
        sharded, self.backbone.model = self.backbone.model, self.copy
        try:
            yield
        finally:
            self.backbone.model = sharded

    def stay(self) -> None:
        """No further step is taken: the plain model is the backbone's from now on."""
        if self.copy is not None:
            self.backbone.model = self.copy

    def load(self, folder: Path, wrapped: nn.Module) -> None:
        """Take the weights in `folder`, for `wrapped` as well."""
        if self.copy is None:
            load_weights(self.backbone, folder)
            return
        sharded, self.backbone.model = self.backbone.model, self.copy
        load_weights(self.backbone, folder)
        self.backbone.model = sharded
        every, first = (dict(self.copy.named_parameters(remove_duplicate=again)) for again in (False, True))
        tied = every.keys() - first.keys()  # torch loads a weight by its first name alone
        state = {f"{PREFIX}{name}": value for name, value in self.copy.state_dict().items() if name not in tied}
        set_model_state_dict(wrapped, state, options=StateDictOptions(full_state_dict=True, strict=False))
