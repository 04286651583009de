"""Loading and saving: pretrained weights, fresh models, the separator token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
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
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from warmup.config.lora import ADAPTER_FILE
from warmup.config.model import check_bitsandbytes
from warmup.config.schema import ModelConfig
from warmup.data.hub_access import hub_answers
from warmup.errors import UserError, first_line, nearest, one_line, wrong_value
from warmup.files import give_usual_mode, read_json, write_json
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import CheckpointSettings, Limits
from warmup.models.checkpoints import read_checkpoint
from warmup.models.families import Family, Model
from warmup.models.generation import FILE, own_settings_aside
from warmup.models.model_types import FAMILIES
from warmup.models.sequence_format import SequenceFormat
from warmup.models.size import check_memory
from warmup.models.tokenizers import PAUSE, SEPARATOR, Remember, always_anew, train_tokenizer

log = logging.getLogger(__name__)
FormatOf = Callable[[PreTrainedTokenizerBase, Family], SequenceFormat]


def load_pretrained(
    path: str,
    revision: str | None = None,
    languages: tuple[str | None, str | None] = (None, None),
    format_of: FormatOf | None = None,
    key: str = "model.pretrained",
    in_4bit: bool = False,
) -> Backbone:
    """Load a model and its tokenizer from the hub, or from a folder that a run or `save_pretrained` wrote.

    A folder of adapters is loaded with its base model; they are not merged yet.

    Args:
        languages: of source and target, for models with a token for each; None leaves what the checkpoint says.
        format_of: what stands around source and target; None: what a run wrote beside the checkpoint, else `<sep>`.
        key: of the configuration, which named it.
        in_4bit: as `read_checkpoint` has it; adapters say themselves what they were trained beside.

    Raises:
        UserError: no network, no such model, no access, a folder that holds no checkpoint, or one that is refused
            (docs/models.md has the reasons).
    """
    folder = Path(path).expanduser()
    if (folder / ADAPTER_FILE).is_file():
        if in_4bit:
            raise wrong_value(
                "model.load_in_4bit", True, f"false with {path}: adapters, for which their own run decides"
            )
        return _load_adapted(folder, languages)
    _check_folder(path, folder, key)
    name = str(folder) if folder.is_dir() else path
    where: dict[str, Any] = {"revision": revision, "local_files_only": folder.is_dir() or not hub_answers()}
    try:
        found = read_checkpoint(name, in_4bit, **where)
    except UserError:
        raise
    except Exception as error:
        raise _loading_error(name, folder.is_dir(), error, key) from error
    tokenizer = _read_tokenizer(name, **where)
    _check_vocabulary(name, found.model, tokenizer)
    if unused := found.own_settings.not_used():
        listed = ", ".join(f"{key}={value}" for key, value in unused.items())
        log.info("%s has generation settings of its own, kept for saving and not used: %s", name, listed)
    sequence = format_of(tokenizer, found.family) if format_of else _sequence_of(name)
    backbone = _with_separator(found.model, tokenizer, found.family, sequence)
    backbone.own_settings = found.own_settings
    found.family.prepare(found.model, tokenizer, languages)
    _check_likelihood(name, backbone)
    return backbone


def _check_folder(path: str, folder: Path, key: str) -> None:
    """See that what looks like a folder is one with a checkpoint in it."""
    if folder.is_dir() and not (folder / "config.json").is_file():
        kinds = [(part, file) for part in ("model", "final") for file in ("config.json", ADAPTER_FILE)]
        inside = next((part for part, file in kinds if (folder / part / file).is_file()), None)
        hint = f"; did you mean {folder / inside}?" if inside else " (it has no config.json)"
        raise UserError(f"{folder} is not a model checkpoint{hint}")
    if not folder.is_dir() and (path.startswith((".", "/", "~", "outputs/")) or path.count("/") > 1):
        beside = [str(entry) for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise wrong_value(key, path, "a checkpoint's folder, or a name on the hub", nearest(folder, beside))
    if folder.is_file():
        raise UserError(f"{folder} is a file; a model checkpoint is a folder")


def _sequence_of(checkpoint: str) -> SequenceFormat:
    own = CheckpointSettings.read(checkpoint)
    return SequenceFormat() if own is None else own.sequence


def _load_adapted(folder: Path, languages: tuple[str | None, str | None]) -> Backbone:
    """The adapters and the tokenizer of `folder`, with the base model that they name."""
    from peft import LoraConfig as AdapterSettings  # here: most models have no adapters, and PEFT takes a second

    from warmup.models.lora import inject

    own = CheckpointSettings.read(str(folder))
    sequence = SequenceFormat() if own is None else own.sequence
    in_4bit = own is not None and own.base_in_4bit
    if in_4bit:
        check_bitsandbytes(f"{folder}, adapters beside weights of 4 bits,")
    try:
        settings = AdapterSettings.from_pretrained(str(folder))
    except Exception as error:  # whatever PEFT raises for a broken file, or for adapters of another kind
        raise UserError(f"{folder / ADAPTER_FILE} is not of LoRA adapters: {one_line(error)}") from error
    if not isinstance(settings, AdapterSettings):
        raise UserError(f"{folder / ADAPTER_FILE} is not of LoRA adapters: it is a {type(settings).__name__}")
    if not settings.base_model_name_or_path:
        raise UserError(f"{folder / ADAPTER_FILE} names no base model (base_model_name_or_path)")
    try:
        name, revision = settings.base_model_name_or_path, settings.revision
        base = load_pretrained(name, revision, format_of=lambda *_: sequence, in_4bit=in_4bit)
    except UserError as error:
        raise UserError(f"the base model of the adapters in {folder} cannot be loaded: {error}") from error
    base.merge_adapters()
    tokenizer = _read_tokenizer(str(folder), local_files_only=True)
    _check_vocabulary(str(folder), base.model, tokenizer)
    backbone = _with_separator(base.model, tokenizer, base.family, sequence)
    base.family.prepare(base.model, tokenizer, languages)
    try:
        backbone.adapters = inject(base.model, settings)
        backbone.adapters.load(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} does not hold adapters of its base model: {one_line(error)}") from error
    backbone.own_settings = base.own_settings
    return backbone


def _read_tokenizer(name: str, **where: Any) -> PreTrainedTokenizerBase:
    """A tokenizer with all that is needed of one; `where` as `from_pretrained` takes it."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    except Exception as error:
        raise _loading_error(name, Path(name).is_dir(), error) from error
    if not tokenizer.is_fast:
        raise UserError(f"{name} has no fast tokenizer (tokenizer.json), which alone reads special tokens as text")
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {name} has no token that ends a text (eos_token)")
    if tokenizer.pad_token_id is None:  # Llama 3 has a token made for padding, and no pad token set
        spare = "<|finetune_right_pad_id|>"
        tokenizer.pad_token = spare if spare in tokenizer.get_vocab() else tokenizer.eos_token
    return tokenizer


def build_fresh(config: ModelConfig, texts: Iterable[str], longest: int, remember: Remember = always_anew) -> Backbone:
    """A new model of the configured size, with a tokenizer trained on `texts`; seed torch before the call.

    `longest` is the number of positions that a sequence may take, `remember` as in `train_tokenizer`.
    """
    family = FAMILIES[config.architecture]()
    tokenizer = train_tokenizer(texts, config.vocabulary_size, family.template, remember)
    _add_token(tokenizer, SEPARATOR)

    def config_of(layers: int) -> PretrainedConfig:
        return family.fresh_config(replace(config, layers=layers), len(tokenizer), tokenizer, longest)

    check_memory(config, family, config_of)
    model = family.auto.from_config(config_of(config.layers))
    family.initialise(model)
    family.prepare(model, tokenizer, (None, None))
    return _with_separator(model, tokenizer, family, SequenceFormat())


def check_lengths(backbone: Backbone, limits: Limits, shown: bool = False) -> None:
    """See that sources and continuations of the longest kind have positions; `shown`: sources that show their target.

    Raises:
        UserError: the model has fewer positions than the limits allow tokens.
    """
    most = backbone.family.most_positions(backbone.model)
    if most is None:
        return
    start = len(backbone.family.start_ids(backbone.model)) - 1
    before = limits.warmup or limits.pauses or 0
    written = start + (before and before + len(backbone.separator)) + limits.target
    read = limits.source + limits.target if shown else limits.source
    model = f"the {most} positions of this {backbone.model.config.model_type}"
    if read > most:
        with_target = f" with task.max_target_tokens={limits.target} (method.sampler=recognition)" if shown else ""
        raise UserError(f"task.max_source_tokens={limits.source}{with_target} is {read} tokens, more than {model}")
    if written > most:
        key = "max_warmup_tokens" if limits.warmup else "num_tokens"
        after = f" after method.{key}={before} and the separator" if before else ""
        raise UserError(f"task.max_target_tokens={limits.target}{after} is {written} tokens, more than {model}")


def add_pause(backbone: Backbone) -> None:
    """Give the model its token for `method=pause`, with an embedding to learn; before any text is encoded."""
    _add_token(backbone.tokenizer, PAUSE)
    _embed_all_tokens(backbone.model, backbone.tokenizer)
    backbone.new_rows.append(backbone.tokenizer.convert_tokens_to_ids(PAUSE))


def _add_token(tokenizer: PreTrainedTokenizerBase, token: str) -> None:
    """As a special token, also where a vocabulary has it as a word: text never holds it, and answers do not show it."""
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)])


def _embed_all_tokens(model: Model, tokenizer: PreTrainedTokenizerBase) -> None:
    highest = max(tokenizer.get_vocab().values())
    if highest >= model.get_input_embeddings().weight.shape[0]:  # T5 has spare rows, Llama has none
        model.resize_token_embeddings(highest + 1)


def _with_separator(
    model: Model, tokenizer: PreTrainedTokenizerBase, family: Family, sequence: SequenceFormat
) -> Backbone:
    is_new, pretrained = SEPARATOR not in tokenizer.get_vocab(), model.get_input_embeddings().weight.shape[0]
    if sequence.separator == SEPARATOR:
        _add_token(tokenizer, SEPARATOR)
    _embed_all_tokens(model, tokenizer)
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = tokenizer.pad_token_id
    separator, *before_target = sequence.separator_ids(tokenizer)
    added = {separator} if sequence.separator == SEPARATOR else set()
    return Backbone(
        model,
        tokenizer,
        family,
        separator,
        separator_is_new=is_new and sequence.separator == SEPARATOR,
        sequence=sequence,
        before_target=tuple(before_target),
        around_source=sequence.around_source(tokenizer),
        new_rows=sorted({*added, *range(pretrained, model.get_input_embeddings().weight.shape[0])}),
    )


def _check_vocabulary(name: str, model: Model, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tokens that were added to a tokenizer may lack an embedding, which they then get; others may not."""
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = [index for index in tokenizer.get_vocab().values() if index >= rows]
    if set(beyond) - tokenizer.added_tokens_decoder.keys():
        raise UserError(
            f"the tokenizer of {name} has token ids up to {max(beyond)}, and the model embeddings for {rows} tokens: "
            "they do not belong together"
        )
    if beyond:
        log.warning("%d added tokens of the tokenizer of %s have no embedding: they get new ones", len(beyond), name)


@torch.no_grad()
def _check_likelihood(name: str, backbone: Backbone) -> None:
    """Our logits are those of the model's own forward pass: some setting in config.json may say otherwise."""
    model, family = backbone.model, backbone.family
    ids = torch.arange(4)[None] % family.output_weight(model).shape[0]
    mask, written = torch.ones_like(ids), torch.stack([ids[:, :3], ids[:, 1:]], dim=1)
    try:
        ours = family.logits(model, family.hidden(model, family.encode(model, ids, mask), written, written >= 0))[0]
        pair = (ids.expand(2, -1), mask.expand(2, -1), written[0], written[0] >= 0)
        plain = family.plain_logits(model, *pair)
    except Exception as error:  # whatever a setting makes transformers raise
        raise UserError(f"{name} cannot be used as its config.json has it: {one_line(error)}") from error
    if not torch.allclose(ours, plain, rtol=1e-3, atol=1e-3 * max(1.0, plain.abs().max().item())):
        raise UserError(f"{name} computes other logits than this program knows of a {model.config.model_type}")


def save(
    backbone: Backbone, folder: Path, settings: CheckpointSettings, state: dict[str, torch.Tensor] | None = None
) -> None:
    """A plain Hugging Face checkpoint, with `settings` beside it; AutoModel*.from_pretrained loads it.

    Of a model with adapters these alone are written, in PEFT's format, with the name of their base model.

    Generation settings that the model came with are put back as they were: transformers would refuse to save some.
    """
    try:
        if backbone.adapters is not None:
            backbone.adapters.save(folder)
        else:
            with own_settings_aside(backbone.model):
                backbone.model.save_pretrained(folder, state_dict=state, safe_serialization=True)
        backbone.tokenizer.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):
            give_usual_mode(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write the model to {folder}: {getattr(error, 'strerror', None) or error}") from error
    settings.write(folder)
    if backbone.adapters is not None:
        return  # what the model came with is said by the base model
    own = backbone.own_settings
    for file, content in ((FILE, own.in_config if own.file is None else own.file), ("config.json", own.in_config)):
        if content:
            write_json(folder / file, read_json(folder / file) | content)


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Take the weights that `save` wrote of this model; where adapters were merged meanwhile, it has none any more."""
    if backbone.adapters is not None and (folder / ADAPTER_FILE).is_file():
        backbone.adapters.load(folder)
        return
    if backbone.adapters is not None:
        backbone.adapters.remove()
        backbone.adapters = None
    backbone.model.load_state_dict(read_checkpoint(str(folder), local_files_only=True).model.state_dict())


def _loading_error(name: str, is_folder: bool, error: BaseException, key: str = "model.pretrained") -> UserError:
    """One line that says which of the usual reasons it was; `key` is what named the model."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 10:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if is_folder:
        return UserError(f"{name} is not a usable model checkpoint: {first_line(error)}")
    if any(isinstance(link, GatedRepoError) for link in chain) or "gated repo" in str(error):
        return UserError(
            f"the model {name} is gated: accept its licence on huggingface.co/{name}, then run `huggingface-cli login` "
            "or set HF_TOKEN"
        )
    if any(isinstance(link, (OfflineModeIsEnabled, LocalEntryNotFoundError, NetworkError)) for link in chain):
        instead = ", or go on offline with model=tiny_t5 or model=scratch_t5" if key == "model.pretrained" else ""
        return UserError(
            f"{key}: cannot reach the Hugging Face hub for the model {name}, and it is neither cached nor a folder "
            f"here: connect once, or name a local folder with {key}=FOLDER{instead}"
        )
    if any(isinstance(link, RepositoryNotFoundError) for link in chain):
        return UserError(f"the hub has no model {name}, or it is private: check the spelling, or set HF_TOKEN")
    return UserError(f"cannot load the model {name}: {first_line(error)}")
