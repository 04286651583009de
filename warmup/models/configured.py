"""The model that a configuration names: built, loaded, or as a checkpoint was trained."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial

import torch

from warmup.config.schema import Config, WarmupMethod
from warmup.data.examples import Example
from warmup.data.stored import remembered
from warmup.errors import UserError, first_line, nearest, wrong_value
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.loading import add_pause, build_fresh, check_lengths, load_pretrained
from warmup.models.sequence_format import SequenceFormat
from warmup.models.tokenizers import SEPARATOR

log = logging.getLogger(__name__)
SENTINEL = "<extra_id_0>"  # which T5 and mT5 know as the mark of what comes next


@dataclasses.dataclass(frozen=True)
class AnsweringModel:
    """A model with the lengths and the wording that it answers with."""

    backbone: Backbone
    settings: CheckpointSettings


def untrained_model(config: Config, examples: Sequence[Example]) -> AnsweringModel:
    """What a training on `examples` begins with: fresh, or pretrained as it comes, with adapters if asked for."""
    settings = CheckpointSettings.from_config(config)
    if config.model.pretrained:
        backbone = _pretrained(config)
    else:
        texts = (text for example in examples for text in (example.prompt, example.target or ""))
        limits = settings.limits
        longest = limits.source + (limits.warmup or limits.pauses or 0) + 1 + limits.target
        backbone = build_fresh(config.model, texts, longest, partial(remembered, examples, "the tokenizer"))
    if settings.limits.pauses is not None:
        add_pause(backbone)
    if config.model.lora.rank:
        from warmup.models.lora import add_adapters  # here: PEFT takes a second to import

        where = str(config.model.pretrained), config.model.revision
        backbone.adapters = add_adapters(backbone.model, config.model.lora, backbone.new_rows, *where)
    return _answering(config, backbone, dataclasses.replace(settings, sequence=backbone.sequence))


def _pretrained(config: Config) -> Backbone:
    """The model as it comes. Around source and target stands what it was trained with, or what `config` asks for."""
    name = str(config.model.pretrained)
    own, format_of = CheckpointSettings.read(name), None
    if own is None or config.model.asks_for_format:
        format_of = partial(SequenceFormat.of_pretrained, config.model)
    languages = (config.task.source_language, config.task.target_language)
    if own is not None and own.base_in_4bit:
        raise UserError(
            f"model.pretrained={name} holds adapters that were trained beside weights of 4 bits, which they cannot be "
            "merged into: train on from their base model"
        )
    backbone = load_pretrained(
        name, config.model.revision, languages, format_of, in_4bit=bool(config.model.load_in_4bit)
    )
    backbone.merge_adapters()
    if isinstance(config.method, WarmupMethod):  # others never write it, and would find it as likely as what it is like
        begin_separator(backbone, own)
    return backbone


@torch.no_grad()
def begin_separator(backbone: Backbone, own: CheckpointSettings | None) -> None:
    """Where nothing is learnt of `<sep>`, it starts where training left a known token: as read, and as predicted.

    That is the end of an answer for an encoder-decoder that a run trained by SFT (`own` is what it wrote), whose first
    warmups then are whole answers; otherwise T5's and mT5's mark of what comes next, or what ends a text.
    """
    model, end = backbone.model, backbone.tokenizer.eos_token_id
    if own is not None and own.method == "sft" and backbone.family.is_encoder_decoder:
        known = end if backbone.sequence.separator == SEPARATOR else None
    else:
        known = backbone.tokenizer.get_vocab().get(SENTINEL, end) if backbone.separator_is_new else None
    if known is None:
        return
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        layer.weight[backbone.separator_id] = layer.weight[known]
        if getattr(layer, "bias", None) is not None:
            layer.bias[backbone.separator_id] = layer.bias[known]


def trained_model(config: Config, device: str) -> AnsweringModel:
    """The checkpoint, on `device`, with what it was trained with; where it does not say, the configuration decides.

    Raises:
        UserError: it cannot be loaded, or cannot answer as the configuration asks.
    """
    path = config.checkpoint or config.model.pretrained
    assert path is not None
    settings = CheckpointSettings.read(path)
    languages = (config.task.source_language, config.task.target_language) if settings is None else (None, None)
    format_of = partial(SequenceFormat.of_pretrained, config.model) if settings is None else None
    key, revision = ("checkpoint", None) if config.checkpoint else ("model.pretrained", config.model.revision)
    backbone = load_pretrained(path, revision, languages, format_of, key)
    backbone.model.to(device)
    if settings is None:
        log.info("%s has no warmup_config.json: it is decoded directly, without warmup or pauses", path)
        asked = CheckpointSettings.from_config(config)
        settings = dataclasses.replace(asked, limits=dataclasses.replace(asked.limits, warmup=None, pauses=None))
    config.evaluation.check_candidates(settings.limits.warmup is not None)
    check_lengths(backbone, settings.limits)
    return _answering(config, backbone, settings)


def _answering(config: Config, backbone: Backbone, settings: CheckpointSettings) -> AnsweringModel:
    backbone.sharpening = settings.sharpening
    backbone.forced = forced_ids(backbone, config.evaluation.forced_bos)
    if config.model.attention is not None:
        _use_attention(backbone, config.model.attention)
    return AnsweringModel(backbone, settings)


def _use_attention(backbone: Backbone, kind: str) -> None:
    if kind == "eager" and not backbone.family.is_encoder_decoder:
        allowed = "null or sdpa for a causal model: padding before a source looks at nothing, of which eager makes NaN"
        raise wrong_value("model.attention", kind, allowed)
    try:
        backbone.model.set_attn_implementation(kind)
    except ValueError as error:  # T5's scores have a bias of their own, which only its own code adds
        allowed = f"null, or eager for a {backbone.model.config.model_type} ({first_line(error)})"
        raise wrong_value("model.attention", kind, allowed) from error


def forced_ids(backbone: Backbone, token: str | None) -> list[int]:
    """What stands before every target that is to begin with `token`; of mBART, a language is set in the model itself.

    Raises:
        UserError: the model has no such token.
    """
    tokenizer = backbone.tokenizer
    if token is None:
        return []
    if token not in tokenizer.get_vocab():
        special = [added.content for added in tokenizer.added_tokens_decoder.values()]
        raise wrong_value("evaluation.forced_bos", token, "a token of this model", nearest(token, special))
    return backbone.family.force_bos(backbone.model, tokenizer, token)
