"""Small tokenizers of every kind that the models come with, each as its family publishes it."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.conftest import TEXTS
from warmup.models.model_types import FAMILIES
from warmup.models.tokenizers import train_tokenizer

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789</>_|."  # what the Unigram vocabularies have
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _byte_level(texts: list[str], use_regex: bool, special: list[str], **options: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def llama3() -> PreTrainedTokenizerFast:
    """Byte-level BPE with its special tokens outside the vocabulary."""
    tokenizer = _byte_level(TEXTS, True, [], ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<s>"
    )


def bart() -> PreTrainedTokenizerFast:
    """Byte-level BPE with special tokens in its vocabulary, and merges that lead to them."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = _byte_level([*TEXTS, *special * 20], False, special)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        clean_up_tokenization_spaces=True,
    )


def llama2() -> PreTrainedTokenizerFast:
    """sentencepiece's BPE: spaces as letters, and single bytes for what the vocabulary lacks."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<unk>", "<s>", "</s>", *BYTES], initial_alphabet=list(CHARACTERS)
    )
    trained.train_from_iterator(TEXTS, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = trained.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def unigram(prepend: str = "always", byte_fallback: bool = False) -> PreTrainedTokenizerFast:
    """T5's kind: the special tokens are pieces of the vocabulary, with the best of all scores."""
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"]
    words = [f"▁{word}" for text in TEXTS for word in text.split()]
    ordinary = [(piece, -3.0) for piece in dict.fromkeys(words)] + [
        (c, -4.0 - i / 50) for i, c in enumerate(CHARACTERS)
    ]
    pieces = [(piece, 0.0) for piece in [*special, *(BYTES if byte_fallback else [])]] + [*ordinary, ("▁", -2.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    fallback = [decoders.ByteFallback()] if byte_fallback else []
    tokenizer.decoder = decoders.Sequence([*fallback, decoders.Metaspace(prepend_scheme=prepend)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<extra_id_0>", "<extra_id_1>"],
    )


KINDS = {
    "fresh t5": lambda: train_tokenizer([*TEXTS, "</s> <s> <unk> <pad>"], 320, FAMILIES["t5"].template),
    "fresh llama": lambda: train_tokenizer(TEXTS, 320, FAMILIES["llama"].template),
    "llama3": llama3,
    "bart": bart,
    "llama2": llama2,
    "t5": unigram,
    "t5, not legacy": lambda: unigram("first"),
    "umt5": lambda: unigram(byte_fallback=True),
}
WRITES_EVERYTHING = ["fresh t5", "fresh llama", "llama3", "bart", "llama2"]
