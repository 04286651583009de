"""Characters that a tokenizer cannot write: no answer can hold them, and the model never sees them in a source."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from typing import Any

from warmup.data.examples import Example
from warmup.data.stored import remembered
from warmup.models.backbone import Backbone
from warmup.models.encoding import TextReader, decoded_text
from warmup.models.tokenizers import text_ids

log = logging.getLogger(__name__)
STRANGER = "\ue000"  # no vocabulary joins it to another character
TOGETHER = 64  # texts that are looked through as one: mostly nothing is lost of them
MOST_SHOWN = 10  # of the most frequent ones


def count_unwritable(
    backbone: Backbone, splits: Mapping[str, Sequence[Example]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Count what does not come back from token ids, for each split and its `sources` and `targets`; warn of each side.

    A character is lost where the tokenizer has `<unk>` for it, drops it, or writes another one (a space for a newline,
    a comma for a full-width one). Spaces are not counted, since tokenizers may join several.

    Returns:
        `{split: {side: {"examples", "example_share", "characters", "character_share", "most_frequent"}}}`: counts of
        those affected, their shares of all (0 to 1), and the most frequent lost characters with their counts. A split
        without references has no `targets`.
    """

    @cache
    def writable(character: str) -> bool:
        """Whether it comes back wherever it stands; one that only a longer piece holds is looked at in its text."""
        return character in decoded_text(backbone, text_ids(backbone.tokenizer, STRANGER + character + STRANGER))

    def whole(text: str) -> bool:
        """Whether nothing of it can be lost: it need not be decoded, as most texts."""
        return unicodedata.is_normalized("NFC", text) and all(map(writable, set(text)))

    def lost(text: str) -> Counter[str]:
        if whole(text):
            return Counter()
        missing = Counter(text) - Counter(decoded_text(backbone, text_ids(backbone.tokenizer, text)))
        del missing[" "]
        return missing

    def counted(examples: Sequence[Example]) -> dict[str, dict[str, Any]]:
        sides = {"sources": _Lost(), "targets": _Lost()}
        rest = iter(examples)
        while some := list(islice(rest, TOGETHER)):
            targets = [example.target for example in some if example.target is not None]
            for name, texts in (("sources", [example.prompt for example in some]), ("targets", targets)):
                sides[name].add(texts, [] if whole("".join(texts)) else list(map(lost, texts)))
        return {name: side.summary() for name, side in sides.items() if side.texts}

    counts: dict[str, dict[str, dict[str, Any]]] = {}
    for split, examples in splits.items():
        name = f"what the tokenizer cannot write of the {split} examples"
        counts[split] = remembered(examples, name, TextReader.of(backbone).identity, partial(counted, examples))
        for side, count in counts[split].items():
            _warn(split, side, len(examples), count)
    return {split: count for split, count in counts.items() if count}


@dataclass
class _Lost:
    """What was lost of the texts so far."""

    texts: int = 0
    affected: int = 0
    length: int = 0  # in characters
    characters: Counter[str] = field(default_factory=Counter)

    def add(self, texts: Sequence[str], missing: Sequence[Counter[str]]) -> None:
        self.texts += len(texts)
        self.affected += sum(map(bool, missing))
        self.length += sum(map(len, texts))
        for characters in filter(None, missing):
            self.characters.update(characters)

    def summary(self) -> dict[str, Any]:
        return {
            "examples": self.affected,
            "example_share": self.affected / self.texts,
            "characters": self.characters.total(),
            "character_share": self.characters.total() / max(1, self.length),
            "most_frequent": dict(self.characters.most_common(MOST_SHOWN)),
        }


def _warn(split: str, side: str, total: int, count: dict[str, Any]) -> None:
    if not count["examples"]:
        return
    shown = ", ".join(f"{_escaped(character)} ({times})" for character, times in count["most_frequent"].items())
    log.warning(
        "%d of %d %s %s hold characters that the tokenizer cannot write (docs/text.md), %.2f%% of all characters, "
        "most often %s",
        count["examples"],
        total,
        split,
        side,
        100 * count["character_share"],
        shown,
    )


def _escaped(character: str) -> str:
    """In quotes; what is not printable is escaped, so that nothing in the data steers the terminal."""
    return ascii(character) if unicodedata.combining(character) else repr(character)
