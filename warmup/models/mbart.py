"""mBART and mBART-50: BART with a norm more, and with tokens that say which language is read and written.

mBART closes a source with `</s>` and its language, and its decoder begins with the target's language. mBART-50 begins a
source with its language, and its decoder with `</s>` and the target's language.
"""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar

from transformers import MBartConfig, PreTrainedTokenizerBase

from warmup.config.languages import language_code
from warmup.errors import UserError, nearest
from warmup.models.bart import Bart
from warmup.models.families import Model

LANGUAGE = re.compile(r"[a-z]{2,3}_[A-Z]{2}")  # its tokens: en_XX, de_DE, ...
log = logging.getLogger(__name__)


class MBart(Bart):
    """mBART and mBART-50."""

    template = "$A </s>"
    config_class: ClassVar[Any] = MBartConfig

    def __init__(self) -> None:
        self.written: int | None = None  # the token of the target's language, where the decoder begins with `</s>`

    def start_ids(self, model: Model) -> list[int]:
        start = super().start_ids(model)
        return start if self.written is None else [*start, self.written]

    def prepare(
        self, model: Model, tokenizer: PreTrainedTokenizerBase, languages: tuple[str | None, str | None]
    ) -> None:
        """The task's languages, or else those that the tokenizer was saved with, choose the tokens.

        A tokenizer without languages begins a target with `</s>`, as Hugging Face's own labels do.
        """
        codes = [token for token in tokenizer.get_vocab() if LANGUAGE.fullmatch(token)]
        if not codes or not hasattr(tokenizer, "src_lang"):
            if model.config.decoder_start_token_id is None:
                model.config.decoder_start_token_id = tokenizer.eos_token_id
            return
        keys = ("task.source_language", "task.target_language")
        source, target = (_code(key, name, codes) for key, name in zip(keys, languages, strict=True))
        tokenizer.src_lang = source or tokenizer.src_lang
        target = target or tokenizer.tgt_lang or _own_start(model, tokenizer, codes) or tokenizer.src_lang
        tokenizer.tgt_lang = target
        language = tokenizer.convert_tokens_to_ids(target)
        if tokenizer("")["input_ids"][-1] == tokenizer.eos_token_id:  # mBART-50
            self.written, model.config.decoder_start_token_id = language, tokenizer.eos_token_id
        else:
            model.config.decoder_start_token_id = language
        log.info("languages of the model: %s is read, %s is written", tokenizer.src_lang, target)

    def force_bos(self, model: Model, tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
        """A language takes the place of the one that its decoder begins with; what is no language follows it."""
        if not LANGUAGE.fullmatch(token):
            return super().force_bos(model, tokenizer, token)
        language = tokenizer.convert_tokens_to_ids(token)
        if self.written is not None:
            self.written = language
        else:
            model.config.decoder_start_token_id = language
        return []


def _own_start(model: Model, tokenizer: PreTrainedTokenizerBase, codes: list[str]) -> str | None:
    """The language that the checkpoint's decoder begins with."""
    start = model.config.decoder_start_token_id
    return next((code for code in codes if tokenizer.convert_tokens_to_ids(code) == start), None)


def _code(key: str, language: str | None, codes: list[str]) -> str | None:
    """The model's token of a language, under whatever name the task has it."""
    if language is None or language in codes:
        return language
    wanted = language_code(language)
    found = next((code for code in codes if language_code(code.split("_")[0]) == wanted), None)
    if found is None:
        known = sorted(codes)
        raise UserError(
            f"{key} is {language!r}, and the model has no token for it; it has {', '.join(known)}"
            f"{nearest(language, known)}"
        )
    return found
