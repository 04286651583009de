"""What stands around source and target in a model's token sequence: new tokens, or text that pretraining knows."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from warmup.config.schema import ModelConfig
from warmup.errors import UserError, wrong_value
from warmup.models.families import Family
from warmup.models.tokenizers import SEPARATOR, text_ids

AFTER_SOURCE, WORDED_SEPARATOR = "\n", "\nAnswer:\n"  # of a pretrained causal model, which has never seen `<sep>`
PLACE = "{source}"  # a text that no chat template holds
TEMPLATE_DATE = "26 Jul 2024"  # what Llama 3's template says where nobody tells the day
LINE_ENDS = ("\n", "Ċ", "<0x0A>")  # as text, in byte-level vocabularies, and as a byte of SentencePiece's


@dataclass(frozen=True)
class SequenceFormat:
    """Texts in which special tokens are special: `before_source` x `after_source` c `separator` y `</s>`.

    None leaves what the family has there: of an encoder-decoder its own marks, of a causal model `<s>` and `<sep>`.
    The separator's first token ends a warmup, and the others follow it. As `<sep>` it is a token of its own.
    """

    before_source: str | None = None
    after_source: str | None = None
    separator: str = SEPARATOR

    @classmethod
    def of_pretrained(cls, config: ModelConfig, tokenizer: PreTrainedTokenizerBase, family: Family) -> SequenceFormat:
        """What `config` asks for; where it is silent, what the model read in pretraining, chat template included.

        Raises:
            UserError: an encoder-decoder is asked for what only causal models have; a chat template that is not there,
                or that does not show a message as it is.
        """
        asked = {"model.chat_template": config.chat_template, "model.after_source": config.after_source}
        if family.is_encoder_decoder:
            for key, value in asked.items():
                if value:
                    raise wrong_value(key, value, "null for an encoder-decoder, whose source has a place of its own")
            return cls(separator=config.separator or SEPARATOR)
        separator = config.separator or WORDED_SEPARATOR
        if config.chat_template and not tokenizer.chat_template:
            raise wrong_value("model.chat_template", True, f"false or null: {config.pretrained} has no chat template")
        if tokenizer.chat_template and config.chat_template is not False and config.after_source is None:
            return cls(*_chat(tokenizer, str(config.pretrained)), separator)
        after = AFTER_SOURCE if config.after_source is None else config.after_source
        return cls(_beginning(tokenizer), after, separator)

    def separator_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Its tokens, as they follow other text.

        Raises:
            UserError: the tokenizer has no token for some of it.
        """
        ids = _after_word(tokenizer, self.separator)
        if not ids or tokenizer.unk_token_id in ids:
            allowed = "<sep>, a token of this model, or text that its tokenizer can write"
            raise wrong_value("model.separator", self.separator, allowed)
        return ids

    def around_source(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]] | None:
        """The tokens before and after a source; None where the family has its own."""
        if self.before_source is None or self.after_source is None:
            return None
        before = tokenizer(self.before_source, add_special_tokens=False)["input_ids"]
        word, followed = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "a" + self.after_source)
        )
        return before, followed[len(word) :]


def line_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that end a line."""
    return [index for token, index in tokenizer.get_vocab().items() if any(end in token for end in LINE_ENDS)]


def word_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """All tokens of the words of `text`, at the beginning of a text and within one."""
    return [index for word in text.split() for form in (word, f" {word}") for index in text_ids(tokenizer, form)]


def _after_word(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of `text` where it goes on after a word; a token's own name stands for that token."""
    if text in tokenizer.get_vocab():
        return [tokenizer.convert_tokens_to_ids(text)]
    word = text_ids(tokenizer, "a")
    return text_ids(tokenizer, "a" + text)[len(word) :]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer puts before a text."""
    return tokenizer.decode([index for index in tokenizer("")["input_ids"] if index != tokenizer.eos_token_id])


def _chat(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, str]:
    """What the chat template puts before and after a user's message, up to where the assistant's begins."""
    message = [{"role": "user", "content": PLACE}]
    # Llama 3's template says today's date otherwise, and a run would go on with another prompt tomorrow
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, date_string=TEMPLATE_DATE)
    if str(text).count(PLACE) != 1:
        raise UserError(f"the chat template of {name} does not show a message as it is: set model.chat_template=false")
    before, after = str(text).split(PLACE)
    return before, after
