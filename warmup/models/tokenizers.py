"""A tokenizer trained on the training split, for models that are built from scratch."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from warmup.models.model_types import FAMILIES

SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>", "<s>"]


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, architecture: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text is representable, and decoding gives the text back.

    Called on a plain text it does what the family's published tokenizers do: T5 ends a text with `</s>`,
    Llama begins it with `<s>`, BART does both.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary_size, len(alphabet) + len(SPECIAL_TOKENS)),
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    template = FAMILIES[architecture].template
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
