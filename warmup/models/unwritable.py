"""Characters that a tokenizer cannot write: no answer can hold them, and the model never sees them in a source."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from warmup.data.examples import Example
from warmup.models.backbone import Backbone
from warmup.models.encoding import decoded_text
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

    counts: dict[str, dict[str, dict[str, Any]]] = {}
    for split, examples in splits.items():
        sides = {
            "sources": [example.prompt for example in examples],
            "targets": [example.target for example in examples if example.target is not None],
        }
        counts[split] = {side: _summary(texts, list(map(lost, texts))) for side, texts in sides.items() if texts}
        for side, count in counts[split].items():
            _warn(split, side, len(sides[side]), count)
    return {split: count for split, count in counts.items() if count}


def _summary(texts: Sequence[str], lost: Sequence[Counter[str]]) -> dict[str, Any]:
    affected = sum(map(bool, lost))
    together: Counter[str] = Counter()
    for missing in lost:
        together.update(missing)
    return {
        "examples": affected,
        "example_share": affected / len(texts),
        "characters": together.total(),
        "character_share": together.total() / max(1, sum(map(len, texts))),
        "most_frequent": dict(together.most_common(MOST_SHOWN)),
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
