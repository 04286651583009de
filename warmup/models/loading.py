"""Loading and saving: pretrained weights, fresh models, the separator token, `warmup_config.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from requests.exceptions import ConnectionError as NetworkError
from safetensors import SafetensorError
from tokenizers import AddedToken
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    MT5Config,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    T5Config,
)

from warmup.config.schema import ModelConfig
from warmup.environment import hub_answers
from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.models.cuda_graphs import Recordings
from warmup.models.decoder_only import DecoderOnly
from warmup.models.encoder_decoder import EncoderDecoder
from warmup.models.families import Family, Model
from warmup.models.tokenizers import train_tokenizer

SEPARATOR = "<sep>"
SETTINGS_FILE = "warmup_config.json"
FORMAT = 1  # of that file
ATTENTION = ("q", "k", "v", "o")  # names of T5's projections
log = logging.getLogger(__name__)


@dataclass
class Backbone:
    """A model with all that is needed to read sources and write continuations."""

    model: Model
    tokenizer: PreTrainedTokenizerBase
    family: Family
    separator_id: int
    recordings: Recordings = field(default_factory=Recordings)  # of loops that decode

    @cached_property
    def never_in_warmup(self) -> torch.Tensor:
        """[V] true for tokens that no warmup may hold: special tokens and vocabulary rows without a token.

        The separator is not among them: it ends the warmup.
        """
        rows = self.model.get_output_embeddings().weight.shape[0]
        forbidden = torch.zeros(rows, dtype=torch.bool)
        forbidden[len(self.tokenizer) :] = True
        special = [index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special]
        forbidden[[index for index in special if index < rows]] = True
        forbidden[self.separator_id] = False
        return forbidden


def load_pretrained(path: str, revision: str | None = None) -> Backbone:
    """Load a model and its tokenizer from the hub, or from a folder that a run or `save_pretrained` wrote.

    Raises:
        UserError: no network, no such model, no access, or a folder that holds no checkpoint.
    """
    folder = Path(path).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        inside = next((part for part in ("model", "final") if (folder / part / "config.json").is_file()), None)
        hint = f"; did you mean {folder / inside}?" if inside else " (it has no config.json)"
        raise UserError(f"{folder} is not a model checkpoint{hint}")
    if not folder.is_dir() and (path.startswith((".", "/", "~", "outputs/")) or path.count("/") > 1):
        raise UserError(f"there is no checkpoint folder {folder}")
    if folder.is_file():
        raise UserError(f"{folder} is a file; a model checkpoint is a folder")
    name = str(folder) if folder.is_dir() else path
    where: dict[str, Any] = {"revision": revision, "local_files_only": folder.is_dir() or not hub_answers()}
    try:
        config = AutoConfig.from_pretrained(name, **where)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
        model = auto.from_pretrained(name, dtype=torch.float32, **where)
    except Exception as error:
        raise _loading_error(name, folder.is_dir(), error) from error
    if tokenizer.pad_token_id is None:  # Llama 3 has a token made for padding, and no pad token set
        spare = "<|finetune_right_pad_id|>"
        tokenizer.pad_token = spare if spare in tokenizer.get_vocab() else tokenizer.eos_token
    if not tokenizer.is_fast:
        raise UserError(f"{name} has no fast tokenizer (tokenizer.json), which alone reads special tokens as text")
    return _with_separator(model, tokenizer)


def build_fresh(config: ModelConfig, texts: Iterable[str], longest: int) -> Backbone:
    """A new model of the configured size, with a tokenizer trained on `texts`; seed torch before the call.

    `longest` is the number of positions that a sequence may take (Llama's rotary table).
    """
    tokenizer = train_tokenizer(texts, config.vocabulary_size, config.architecture)
    _add_separator(tokenizer)
    shape = _fresh_config(config, len(tokenizer), tokenizer, longest)
    auto = AutoModelForSeq2SeqLM if shape.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(shape)
    if shape.is_encoder_decoder:
        _enlarge_attention(model, small_scale(config.width))
    return _with_separator(model, tokenizer)


def small_scale(width: int) -> float:
    """What a fresh T5's weights are multiplied with, attention's projections apart.

    Hugging Face's scale is made for Adafactor: next to embeddings of unit variance, and norms of one, AdamW's steps are
    too small. docs/multi30k.md has what was measured.
    """
    return float(0.8 * width**-0.5)


@torch.no_grad()
def _enlarge_attention(model: Model, scale: float) -> None:
    """Give T5's projections their usual scale again, or sources are noticed late."""
    for name, weight in model.named_parameters():
        if name.split(".")[-2] in ATTENTION:
            weight.div_(scale)


def _fresh_config(config: ModelConfig, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int) -> PretrainedConfig:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if config.architecture == "llama":
        return LlamaConfig(
            vocab_size=rows,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=max(longest, 512),
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            **ids,
        )
    multilingual = config.architecture == "mt5"
    return (MT5Config if multilingual else T5Config)(
        vocab_size=rows,
        d_model=config.width,
        d_kv=config.width // config.heads,
        d_ff=config.feed_forward,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=config.dropout,
        initializer_factor=small_scale(config.width),
        feed_forward_proj="gated-gelu" if multilingual else "relu",
        tie_word_embeddings=False,  # shared ones would have to be large for the one end and small for the other
        decoder_start_token_id=tokenizer.pad_token_id,
        **ids,
    )


def _add_separator(tokenizer: PreTrainedTokenizerBase) -> None:
    """As a special token, also where a vocabulary has it as a word: text never holds it, and answers do not show it."""
    tokenizer.add_tokens([AddedToken(SEPARATOR, special=True, normalized=False)])


def _with_separator(model: Model, tokenizer: PreTrainedTokenizerBase) -> Backbone:
    _add_separator(tokenizer)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:  # T5 has spare rows, Llama has none
        model.resize_token_embeddings(len(tokenizer))
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = tokenizer.pad_token_id
    family: Family = EncoderDecoder() if model.config.is_encoder_decoder else DecoderOnly()
    return Backbone(model, tokenizer, family, tokenizer.convert_tokens_to_ids(SEPARATOR))


def save(
    backbone: Backbone, folder: Path, settings: dict[str, Any], state: dict[str, torch.Tensor] | None = None
) -> None:
    """A plain Hugging Face checkpoint and `settings` as `warmup_config.json`; AutoModel*.from_pretrained loads it."""
    try:
        backbone.model.save_pretrained(folder, state_dict=state, safe_serialization=True)
        backbone.tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write the model to {folder}: {getattr(error, 'strerror', None) or error}") from error
    write_json(folder / SETTINGS_FILE, settings)


def load_settings(path: str) -> dict[str, Any] | None:
    """The `warmup_config.json` beside a checkpoint; None for a model that this program did not train.

    Raises:
        UserError: the file is broken, or of another version.
    """
    file = Path(path).expanduser() / SETTINGS_FILE
    if not file.is_file():
        return None
    settings = read_json(file)
    known = isinstance(settings, dict) and settings.get("format") == FORMAT
    if not known or not {"limits", "wording"} <= settings.keys():
        raise UserError(
            f"{file} is not what this version writes (format {FORMAT}): evaluate with the version that wrote it"
        )
    return settings


def _loading_error(name: str, is_folder: bool, error: BaseException) -> UserError:
    """One line that says which of the usual reasons it was."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 10:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if is_folder:
        return UserError(f"{name} is not a usable model checkpoint: {str(error).splitlines()[0]}")
    if any(isinstance(link, GatedRepoError) for link in chain) or "gated repo" in str(error):
        return UserError(
            f"the model {name} is gated: accept its licence on huggingface.co/{name}, then run `huggingface-cli login` "
            "or set HF_TOKEN"
        )
    if any(isinstance(link, (OfflineModeIsEnabled, LocalEntryNotFoundError, NetworkError)) for link in chain):
        return UserError(
            f"cannot reach the Hugging Face hub for the model {name}, and it is neither cached nor a folder here: "
            "connect once, name a local folder with model.pretrained=FOLDER, or go on offline with model=tiny_t5 or "
            "model=scratch_t5"
        )
    if any(isinstance(link, RepositoryNotFoundError) for link in chain):
        return UserError(f"the hub has no model {name}, or it is private: check the spelling, or set HF_TOKEN")
    return UserError(f"cannot load the model {name}: {str(error).splitlines()[0]}")
