"""LoRA through PEFT: adapters in the linear layers of a model that otherwise stays the one it was.

The adapters are put into the model in place, so families, samplers and the packed scoring use it as any other. Rows of
the embeddings that no pretraining has seen, the separator's above all, are trained with them, as PEFT's
`trainable_token_indices`: `modules_to_save` would train and save whole embeddings for the sake of a row.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils.other import TrainableTokensWrapper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from warmup.config.schema import LoraConfig
from warmup.errors import UserError, nearest, wrong_value
from warmup.models.families import Model
from warmup.models.size import count_weights

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # PEFT's own name
EMBEDDINGS = ("shared", "embed_tokens")  # what the models of our families call them
NAME = "default"  # of the one adapter, as PEFT calls it
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapters:
    """What was put into a model."""

    wrapper: Any  # PEFT's, around the model

    @property
    def settings(self) -> peft.LoraConfig:
        """As adapter_config.json has them."""
        return self.wrapper.peft_config[NAME]

    def save(self, folder: Path) -> None:
        """In PEFT's own format: adapters and new rows, without the base model, which is named."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.clone().contiguous() for name, value in self._weights().items()}
        save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        self.settings.save_pretrained(str(folder))

    def _weights(self) -> dict[str, Tensor]:
        return peft.get_peft_model_state_dict(self.wrapper, save_embedding_layers=False)

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote.

        Raises:
            UserError: they are not those of these adapters, or not finite.
        """
        weights = load_file(folder / ADAPTER_WEIGHTS)
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        shapes, found = ({name: value.shape for name, value in part.items()} for part in (self._weights(), weights))
        wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
        if broken or wrong:
            fault = "not finite" if broken else "not those of its adapter_config.json and base model"
            raise UserError(f"the adapters in {folder} are {fault}: {', '.join((broken or wrong)[:3])}")
        peft.set_peft_model_state_dict(self.wrapper, weights)

    def merge(self) -> None:
        """Add them to the model's own weights, in place; nothing of PEFT's is left in it, nor frozen."""
        self.wrapper.merge_and_unload().requires_grad_(True)

    def remove(self) -> None:
        """Take them out of the model, which is the base model again but for the new rows."""
        self.wrapper.unload().requires_grad_(True)


def add_adapters(model: Model, config: LoraConfig, new_rows: list[int], base: str, revision: str | None) -> Adapters:
    """Freeze `model` and put fresh adapters into it, which change nothing yet; seed torch before the call.

    Args:
        new_rows: of its embeddings, to be trained beside the adapters.
        base: the folder or the name on the hub that the model was read from.

    Raises:
        UserError: it has no linear layer of a name in `target_modules`.
    """
    known = _linear_layers(model)
    for name in config.target_modules or []:
        if name not in known:
            raise wrong_value("model.lora.target_modules", name, ", ".join(known), nearest(name, known))
    assert config.rank
    folder, causal = Path(base).expanduser(), not model.config.is_encoder_decoder
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # PEFT says int, and multiplies with it
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules or known),
        trainable_token_indices={name: new_rows for name in _token_tables(model)},
        task_type="CAUSAL_LM" if causal else "SEQ_2_SEQ_LM",
        base_model_name_or_path=str(folder.resolve()) if folder.is_dir() else base,
        revision=revision,
    )
    adapters = inject(model, settings)
    total, count = count_weights(model)
    log.info(
        "LoRA of rank %d in %s: %s of %s parameters are trained (%.2g%%), %d new embedding among them",
        config.rank,
        ", ".join(config.target_modules or known),
        f"{count:,}",
        f"{total:,}",
        100 * count / total,
        len(new_rows),
    )
    return adapters


def inject(model: Model, settings: peft.LoraConfig) -> Adapters:
    """Put adapters of these settings into `model`, in place."""
    settings.inference_mode = False
    training, base = model.training, settings.base_model_name_or_path
    settings.base_model_name_or_path = None  # PEFT puts there what the model calls itself, and warns of another name
    wrapper = peft.get_peft_model(model, settings, adapter_name=NAME)
    settings.base_model_name_or_path = base
    model.train(training)  # what is new begins in training mode
    first: dict[Tensor, TrainableTokensLayer] = {}
    for part in model.modules():
        if isinstance(part, TrainableTokensWrapper):
            rows: Any = part.token_adapter
            rows.__class__ = _NewRows
            rows.trainable_tokens_delta = first.setdefault(rows.base_layer.weight, rows).trainable_tokens_delta
            rows.register_buffer("rows", torch.tensor(rows.token_indices[NAME]), persistent=False)
    return Adapters(wrapper)


class _NewRows(TrainableTokensLayer):
    """PEFT's, but that tokens are sampled without a copy of the whole table at each step."""

    rows: Tensor  # [n] indices of the new rows

    def get_merged_weights(self, active_adapters: list[str]) -> Tensor:
        """[V, W] the table with the trained rows in it; without gradient they are written into the frozen one."""
        table: Tensor = self.base_layer.weight  # type: ignore[assignment]
        trained = self.trainable_tokens_delta[NAME]
        if torch.is_grad_enabled():
            return table.index_copy(0, self.rows, trained)
        table.data.index_copy_(0, self.rows, trained)
        return table


def _linear_layers(model: Model) -> list[str]:
    """What the linear layers of attention and feed-forward are called, in the order of the model."""
    output = model.get_output_embeddings()
    found = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not output]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in found))


def _token_tables(model: Model) -> list[str]:
    """The modules that hold a row for each token: embeddings under every name that they have, and the output layer."""
    output = model.get_output_embeddings()
    modules = model.named_modules(remove_duplicate=False)
    return [name for name, part in modules if part is output or name.rpartition(".")[2] in EMBEDDINGS]
