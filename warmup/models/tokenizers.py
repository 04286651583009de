"""Between text and token ids, and a tokenizer trained on the training split for models that are built from scratch."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SEPARATOR = "<sep>"  # between source, warmup and target
PAUSE = "<pause>"  # where a warmup would stand, for method=pause
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>", "<s>"]
Remember = Callable[[Callable[[], Any], Callable[[], str]], str]
_OF_TEXT: WeakKeyDictionary[PreTrainedTokenizerBase, Tokenizer] = WeakKeyDictionary()


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of `text`, in which nothing is special: `</s>`, `<unk>` or `<sep>` in it is spelt out as other text is.

    A text without such strings gets the ids of `tokenizer(text, add_special_tokens=False)`. All special tokens must
    have been added to the tokenizer before its first text.
    """
    if tokenizer not in _OF_TEXT:
        _OF_TEXT[tokenizer] = _without_special_tokens(tokenizer)
    ids: list[int] = _OF_TEXT[tokenizer].encode(text, add_special_tokens=False).ids
    return ids


def _without_special_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy that neither cuts special tokens out of a text nor finds them among the pieces of its vocabulary.

    T5's and mBART's vocabularies hold them as pieces like any other, with the best of all scores. A cut after the
    first character, put where the text is cut into words, keeps them from being found; so it does for the names of
    single bytes (`<0x0A>`).
    """
    plain: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
    plain.no_truncation()
    plain.no_padding()
    plain.encode_special_tokens = True
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = [re.escape(name) for name in special if plain.model.token_to_id(name) is not None]
    if plain.model.token_to_id("<0x0A>") is not None:
        names.append("<0x[0-9A-F]{2}>")
    if names:
        first_character = pre_tokenizers.Split(Regex(rf"(?=(?:{'|'.join(names)}))."), "merged_with_previous")
        before = [plain.pre_tokenizer] if plain.pre_tokenizer else []
        plain.pre_tokenizer = pre_tokenizers.Sequence([*before, first_character])
    return plain


def always_anew(_: Callable[[], Any], train: Callable[[], str]) -> str:
    """Keeps no tokenizer."""
    return train()


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, template: str, remember: Remember = always_anew
) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text is representable, and decoding gives the text back.

    Args:
        template: what it puts around a text that it is called on, as the family's published tokenizers do: T5 ends a
            text with `</s>`, Llama begins it with `<s>`, BART does both.
        remember: returns the JSON of an earlier training with the same settings, else of the one that it is given.
    """

    def train() -> str:
        return train_byte_level_bpe(texts, vocabulary_size, SPECIAL_TOKENS, add_prefix_space=True).to_str()

    settings = [tokenizers.__version__, vocabulary_size, SPECIAL_TOKENS]
    tokenizer = Tokenizer.from_str(remember(lambda: settings, train))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>" if "<s>" in template else None,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def train_byte_level_bpe(
    texts: Iterable[str], vocabulary_size: int, special_tokens: list[str], add_prefix_space: bool
) -> Tokenizer:
    """A tokenizer of all bytes and of what is frequent in `texts`, up to `vocabulary_size` tokens.

    `add_prefix_space`: whether a text's first word is spelt as one within a text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary_size, len(alphabet) + len(special_tokens)),
        special_tokens=special_tokens,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
