"""Which model is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from omegaconf import MISSING

from warmup.config.architectures import ARCHITECTURES
from warmup.config.fields import choice, number
from warmup.config.lora import LoraConfig
from warmup.errors import UserError, nearest, wrong_value


@dataclass
class ModelConfig:
    """Weights from the hub or a folder, or a fresh model of the given size."""

    name: str = MISSING  # the label in tables
    pretrained: str | None = None  # hub name or folder; None builds a fresh model from the values below
    revision: str | None = None
    attention: str | None = choice(None, "eager", "sdpa", "flash_attention_2")  # None: as transformers chooses
    load_in_4bit: bool | None = None  # the frozen weights that LoRA's adapters stand beside
    # What stands around source and target, of a pretrained model (docs/models.md). None: its chat template where it has
    # one; a line end after the source; "\nAnswer:\n" after the warmup of a causal model, `<sep>` after that of others.
    chat_template: bool | None = None
    after_source: str | None = None
    separator: str | None = None
    architecture: str = "t5"  # one of `warmup.models.model_types`
    vocabulary_size: int = number(2000, 64, 1_000_000)  # of the tokenizer trained on the training split
    width: int = number(64, 8, 65536)
    layers: int = number(2, 1, 256)  # of the encoder and of the decoder each, or of the causal LM
    heads: int = number(4, 1, 256)
    feed_forward: int = number(128, 8, 262144)
    dropout: float = number(0.0, 0.0, 0.9)  # above 0 for encoder-decoders alone: the others have none
    lora: LoraConfig = field(default_factory=LoraConfig)

    def check(self) -> None:
        """See that there is such a model.

        Raises:
            UserError: naming the key.
        """
        self._check_format()
        if self.architecture not in ARCHITECTURES:
            suggestion = nearest(self.architecture, ARCHITECTURES)
            raise wrong_value("model.architecture", self.architecture, ", ".join(ARCHITECTURES), suggestion)
        if self.dropout and not ARCHITECTURES[self.architecture]:
            having = ", ".join(name for name, has_dropout in ARCHITECTURES.items() if has_dropout)
            allowed = f"0 with model.architecture={self.architecture}, which has none ({having} have)"
            raise wrong_value("model.dropout", self.dropout, allowed)
        if self.pretrained is None and self.width % self.heads:
            raise wrong_value("model.width", self.width, f"a multiple of model.heads={self.heads}")
        self.lora.check(self.pretrained is not None)
        self._check_computing()

    @property
    def asks_for_format(self) -> bool:
        """Whether it says what stands around source and target."""
        return any(value is not None for value in (self.chat_template, self.after_source, self.separator))

    def _check_computing(self) -> None:
        """See that all continuations of an input can be scored in one row, and that rounded weights stay frozen."""
        if self.attention == "flash_attention_2":
            reason = (
                "an input's continuations are scored in one row, under a mask that the package flash-attn cannot take"
            )
            raise wrong_value("model.attention", self.attention, f"eager or sdpa: {reason}")
        if not self.load_in_4bit:
            return
        if not self.lora.rank:
            allowed = "false without LoRA, as model.lora.rank=8: weights of 4 bits cannot be trained"
            raise wrong_value("model.load_in_4bit", True, allowed)
        if self.lora.merge:
            reason = "merged into weights of 4 bits, the adapters would be rounded with them"
            raise wrong_value("model.lora.merge", True, f"false with model.load_in_4bit: {reason}")
        check_bitsandbytes("model.load_in_4bit=true")

    def _check_format(self) -> None:
        """See that what surrounds source and target is asked of a model that has a use for it."""
        for key in ("chat_template", "after_source", "separator"):
            value = getattr(self, key)
            if value is not None and self.pretrained is None:
                raise wrong_value(f"model.{key}", value, "null without model.pretrained: a fresh model knows no text")
        if self.separator == "":
            raise wrong_value("model.separator", "", "a text that ends a warmup, as '\\nAnswer:\\n', or null")
        if self.chat_template and self.after_source is not None:
            raise wrong_value("model.after_source", self.after_source, "null with model.chat_template=true")


def check_bitsandbytes(what: str) -> None:
    """See that the package is there which `what` needs.

    Raises:
        UserError: it is not.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(f"{what} needs a package that is not installed: pip install bitsandbytes")
