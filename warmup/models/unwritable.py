"""Characters that a tokenizer cannot write: no answer can hold them, and the model never sees them in a source."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from warmup.data.examples import Example
from warmup.data.stored import remembered
from warmup.models.backbone import Backbone
from warmup.models.encoding import TextReader, decoded_text
from warmup.models.tokenizers import text_ids

log = logging.getLogger(__name__)
STRANGER = "\ue000"  # no vocabulary joins it to another character
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

    def lost(text: str) -> Counter[str]:
        if unicodedata.is_normalized("NFC", text) and all(map(writable, set(text))):
            return Counter()  # nothing to be decoded, as for most texts
        missing = Counter(text) - Counter(decoded_text(backbone, text_ids(backbone.tokenizer, text)))
        del missing[" "]
        return missing

    def counted(examples: Sequence[Example]) -> dict[str, dict[str, Any]]:
        sides = {"sources": _Lost(), "targets": _Lost()}
        for example in examples:
            sides["sources"].add(example.prompt, lost(example.prompt))
            if example.target is not None:
                sides["targets"].add(example.target, lost(example.target))
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

    def add(self, text: str, missing: Counter[str]) -> None:
        self.texts += 1
        self.affected += bool(missing)
        self.length += len(text)
        self.characters.update(missing)

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
