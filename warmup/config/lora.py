"""LoRA: a few trained weights beside a pretrained model's own, which stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, fields

from warmup.config.fields import number
from warmup.errors import UserError, wrong_value

MOST_RANK = 4096
ADAPTER_FILE = "adapter_config.json"  # PEFT's own name; here, since PEFT itself takes seconds to import


@dataclass
class LoraConfig:
    """Adapters of PEFT in linear layers: W + (alpha / rank) B A (Hu et al. 2022, section 4.1)."""

    rank: int | None = number(None, 0, MOST_RANK)  # of B A; None or 0 trains the whole model
    alpha: float = number(16.0, 1e-6, 1e6)
    dropout: float = number(0.0, 0.0, 0.9)  # of what an adapter reads
    target_modules: list[str] | None = None  # names of linear layers; None: all but the output layer
    merge: bool = True  # whether the saved model has the adapters in its own weights

    def check(self, pretrained: bool) -> None:
        """See that there is something to adapt, and that no value is given in vain.

        Raises:
            UserError: naming the key.
        """
        if not self.rank:
            for own in fields(self):
                if own.name != "rank" and getattr(self, own.name) != own.default:
                    key, value = f"model.lora.{own.name}", getattr(self, own.name)
                    raise UserError(f"{key} is {value!r} and there is no LoRA: give model.lora.rank=8, or leave it out")
            return
        if not pretrained:
            allowed = "null, or with model.pretrained=NAME: a fresh model has no weights worth keeping as they are"
            raise wrong_value("model.lora.rank", self.rank, allowed)
        names = self.target_modules
        if names is not None and (not names or not all(names) or len(set(names)) < len(names)):
            raise wrong_value(
                "model.lora.target_modules", names, "null, or a list of different names, as [q_proj,v_proj]"
            )
