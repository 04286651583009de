"""What tells runs of one task and model apart, in few letters: the one key that differs, or A, B, ... with a legend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from warmup.runs.finding import BY_CONTENT, Run, group_by, natural_order, sorting_key
from warmup.runs.metrics_records import METHOD_NAMES

MOST_LETTERS = 28  # of the one key that differs and its value: longer ones get a letter too
Settings = Mapping[str, str]


@dataclass
class Legend:
    """Letters and what each stands for, in the order in which they were given; equal words share a letter."""

    words: dict[str, str] = field(default_factory=dict)

    def short(self, differing: Settings) -> str:
        """The one key that differs and its value, or a letter for more and for longer ones; empty for none."""
        text = in_words(differing)
        if len(differing) < 2 and len(text) <= MOST_LETTERS:
            return text
        known = {words: letter for letter, words in self.words.items()}
        letter = known.get(text) or _letter(len(self.words))
        self.words[letter] = text
        return letter

    def lines(self, labels: Sequence[str]) -> list[str]:
        """ "A: learning_rate 0.01, max_steps 20", for each letter in `labels`."""
        used = {part for label in labels for part in label.split(", ")}
        return [f"{letter}: {words}" for letter, words in self.words.items() if letter in used]


@dataclass(frozen=True)
class ShortLabels:
    """The labels of some runs, the newest of each seed: for tables and figures the same.

    A legend's letters go by the order of experiments, then of variants.
    """

    runs: Sequence[Run]

    @cached_property
    def legend(self) -> Legend:
        """Of all labels."""
        return self._labels[2]

    def of_experiment(self, experiment: Settings) -> str:
        """What tells it from the others of its task and model; empty where it is the only one."""
        return self._labels[0][sorting_key(experiment)]

    def of_variant(self, method: str, variant: Settings) -> str:
        """What tells it from the method's others; empty where it is the only one."""
        return self._labels[1].get((method, sorting_key(variant)), "")

    def variants(self, method: str) -> list[tuple[str, dict[str, str]]]:
        """Label and settings of each variant of a method; num_samples 4 comes before 16."""
        found = group_by([run for run in self.runs if run.method == method], "variant")
        differing = [in_words(words) for words in varying([variant for variant, _ in found])]
        ordered = sorted(zip(differing, found, strict=True), key=lambda item: natural_order(item[0]))
        return [(self.of_variant(method, variant), variant) for _, (variant, _) in ordered]

    @cached_property
    def _labels(self) -> tuple[dict[Any, str], dict[Any, str], Legend]:
        legend = Legend()
        alike: dict[tuple[str, str], list[tuple[Settings, Sequence[Run]]]] = defaultdict(list)
        for experiment, same in group_by(self.runs, "experiment"):
            alike[same[0].task, same[0].model_name].append((experiment, same))
        experiments: dict[Any, str] = {}
        for groups in alike.values():
            words = _experiment_words([same for _, same in groups])
            for (settings, _), differing in zip(groups, words, strict=True):
                experiments[sorting_key(settings)] = legend.short(differing)
        variants: dict[Any, str] = {}
        for method in METHOD_NAMES:
            found = [variant for variant, _ in group_by([r for r in self.runs if r.method == method], "variant")]
            pairs = sorted(zip(varying(found), found, strict=True), key=lambda pair: natural_order(in_words(pair[0])))
            variants |= {(method, sorting_key(variant)): legend.short(differing) for differing, variant in pairs}
        return experiments, variants, legend


def varying(settings: Sequence[Settings]) -> list[dict[str, str]]:
    """Of each of `settings` what tells it from the others, by the endings of its keys.

    A key that the others set and this one does not is "default"; where two keys end alike, they are spelt out.
    """
    keys = sorted({key for setting in settings for key in setting})
    keys = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    endings = [key.split(".")[-1] for key in keys]
    names = {key: end if endings.count(end) == 1 else key for key, end in zip(keys, endings, strict=True)}
    return [{names[key]: setting.get(key, "default") for key in keys} for setting in settings]


def in_words(settings: Settings) -> str:
    """ "num_samples 4, learning_rate 0.01"."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _experiment_words(groups: Sequence[Sequence[Run]]) -> list[dict[str, str]]:
    """`varying` of the experiment of each group's runs, by its digests where all names agree."""
    named = [runs[0].shared_settings for runs in groups]
    words = varying(named)
    if len(set(map(in_words, words))) == len(words):
        return words
    digests = [runs[0].experiment for runs in groups]
    keys = {key for found in digests for key in found if key in BY_CONTENT}
    recorded = [{key: found.get(key, "not recorded") for key in keys} for found in digests]
    return varying([names | found for names, found in zip(named, recorded, strict=True)])


def _letter(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    higher, place = divmod(number, 26)
    return (_letter(higher - 1) if higher else "") + chr(ord("A") + place)
