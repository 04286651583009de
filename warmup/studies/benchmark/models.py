"""A model of a named size, or of any configuration of a known type, with random weights or none at all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from warmup.data.hub_access import hub_answers
from warmup.errors import UserError, nearest
from warmup.models.backbone import Backbone
from warmup.models.model_types import family_of
from warmup.studies.bare_backbone import END_ID, PAD_ID, SEPARATOR_ID, bare_backbone
from warmup.studies.benchmark.workloads import SIZES


def read_config(model: str) -> PretrainedConfig:
    """The configuration of a size in `SIZES`, in a folder, or on the hub.

    Raises:
        UserError: there is none of that name, it cannot be read, or it is of no type that there is.
    """
    if model in SIZES:
        return AutoConfig.for_model(**SIZES[model])
    folder = Path(model).expanduser()
    if folder.exists() and not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json")
    config = _from_folder(folder) if folder.exists() else _from_hub(model)
    family_of(config.to_dict(), model)
    return config


def _from_folder(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its validation, JSON or the file system do
        raise UserError(f"{folder / 'config.json'} is no usable configuration: {_first_words(error)}") from error


def _from_hub(name: str) -> PretrainedConfig:
    hint = nearest(name, SIZES) or f"; sizes known here: {', '.join(SIZES)}"
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(f"there is no folder {name}{hint}") from None
    reached = hub_answers()
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=not reached)
    except Exception as error:
        why = f"the hub gives none: {_first_words(error)}" if reached else "the Hugging Face hub cannot be reached"
        raise UserError(f"there is no folder {name}, and {why}{hint}") from error


def _first_words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def random_backbone(config: PretrainedConfig, device: str, dropout: bool = False) -> Backbone:
    """A float32 model with random weights on `device`: cpu, cuda, or meta (shapes alone).

    `dropout`: as the configuration has it (T5, BART: 0.1; causal models mostly none); else none at all.
    """
    config = copy.deepcopy(config)
    config.pad_token_id, config.eos_token_id = PAD_ID, END_ID
    family = family_of(config.to_dict(), "the model")
    if family.is_encoder_decoder:
        config.decoder_start_token_id = PAD_ID
    if not dropout:
        for rate in (name for name in vars(config) if "drop" in name):
            setattr(config, rate, 0.0)
    with torch.device(device):
        # on meta tensors nobody can look whether a mask is all ones, as other kinds of attention would
        kind = {"attn_implementation": "eager"} if device == "meta" else {}
        network = family.auto.from_config(config, dtype=torch.float32, **kind).train()
    if device == "meta" and not family.is_encoder_decoder:
        _without_angles(network.model.rotary_emb)
    # no warmup ends early, so that each way writes and reads as many tokens
    never = torch.zeros(family.output_weight(network).shape[0], dtype=torch.bool)
    never[: SEPARATOR_ID + 1] = True
    return bare_backbone(network, family, never)


def _without_angles(rotary: Any) -> None:
    """Let cosines and sines be of the right shape only: autocast, which Llama calls there, knows no meta device."""
    head_size = 2 * rotary.inv_freq.numel()  # one frequency for each pair of channels

    def angles(states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        found = states.new_empty(*position_ids.shape, head_size)
        return found, found

    rotary.forward = angles
