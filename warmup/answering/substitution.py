"""What the answers owe to the warmup: the test set answered again given other warmups than the inputs' own.

Each kind is a control that says what a gain may come from instead: another input's warmup and one constant warmup for
all have the form of warmups and nothing about their input; random tokens have the length alone; the source's first
tokens have content that needs no thought; the empty one has nothing. A gain is the warmups' own where `own` beats all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from warmup.answering.answerer import Answerer, encoded_batches
from warmup.answering.marginal import score_candidates
from warmup.data.examples import Example, options_of_all
from warmup.methods.sampling import as_written
from warmup.models.backbone import Backbone
from warmup.models.encoding import decoded_text, encode_sources, encode_targets
from warmup.models.modes import evaluation_mode
from warmup.models.tokenizers import text_ids

log = logging.getLogger(__name__)
SHUFFLE_SEED = 1
RANDOM_SEED = 1


@dataclass(frozen=True)
class AnswersGiven:
    """Answers given one kind of warmup, in the order of the examples."""

    predictions: list[str]
    target_nll: float  # of the references, in nats per token
    changed: float  # share of predictions that are others than given the inputs' own warmups


@dataclass(frozen=True)
class Substitution:
    """`kinds`: the answers by the name of what was given, `own` first (`substitutes` has the others).

    A single example has no other input: `shuffled` is then left out.
    """

    examples: int
    same_warmup: float  # share of inputs whose shuffled warmup equals their own
    kinds: dict[str, AnswersGiven]


@torch.no_grad()
def substitute_warmups(answerer: Answerer, examples: Sequence[Example]) -> Substitution:
    """Answer `examples`, at least one and each with a reference, given each kind of warmup.

    The model writes warmups. One of an input is examined, greedy, by beam or drawn, whatever `num_warmups` is.
    """
    sources = encode_sources(answerer.backbone, examples, answerer.limits.source, "test")
    references = encode_targets(answerer.backbone, examples, answerer.limits.target, "test")
    with evaluation_mode(answerer.backbone.model.modules()):
        own = _own_warmups(answerer, sources)
        warmups = {"own": own} | substitutes(answerer.backbone, own, [example.source for example in examples])
        same = sum(before == now for before, now in zip(own, warmups["shuffled"], strict=True))
        if len(own) == 1:
            del warmups["shuffled"]
        predictions, nats = _answer_given(answerer, warmups, sources, references)
        if answerer.evaluation.answer_by == "likelihood" and (options := options_of_all(examples)):
            predictions = _chosen_given(answerer, warmups, sources, options)
    tokens = sum(map(len, references))

    def answers_given(kind: str) -> AnswersGiven:
        changed = sum(now != before for now, before in zip(predictions[kind], predictions["own"], strict=True))
        return AnswersGiven(predictions[kind], nats[kind] / tokens, changed / len(own))

    return Substitution(len(own), same / len(own), {kind: answers_given(kind) for kind in warmups})


def substitutes(backbone: Backbone, own: Sequence[list[int]], sources: Sequence[str]) -> dict[str, Sequence[list[int]]]:
    """What stands in for each input's `own` warmup (token ids without separator), by kind; `sources` are raw texts.

    shuffled: another input's. random: as many tokens as the own has, drawn uniformly from all that a warmup may hold.
    constant: for all inputs the most frequent own one, of equally frequent ones the first. source_start: the first
    tokens of the source without the task's wording, as many as the own has or the source offers. empty: none.
    """
    holds = ~backbone.never_in_warmup
    holds[backbone.separator_id] = False
    ordinary = holds.nonzero().flatten()
    seeded = torch.Generator().manual_seed(RANDOM_SEED)
    (constant, count), *_ = Counter(map(tuple, own)).most_common(1)
    text = decoded_text(backbone, list(constant))
    log.info("the constant warmup of the controls is %r, which %d of %d inputs have", text, count, len(own))
    starts = [[token for token in text_ids(backbone.tokenizer, source) if holds[token]] for source in sources]
    return {
        "shuffled": [own[other] for other in other_inputs(len(own))],
        "random": [ordinary[torch.randint(len(ordinary), (len(row),), generator=seeded)].tolist() for row in own],
        "constant": [list(constant) for _ in own],
        "source_start": [start[: len(row)] for start, row in zip(starts, own, strict=True)],
        "empty": [[] for _ in own],
    }


def _own_warmups(answerer: Answerer, sources: list[list[int]]) -> list[list[int]]:
    own: list[list[int]] = [[] for _ in sources]
    for chosen, encoded in encoded_batches(answerer.backbone, sources, answerer.evaluation.batch_size, "warmups"):
        for index, warmup in zip(chosen, answerer.write_warmups(encoded), strict=True):
            own[index] = warmup
    return own


def _answer_given(
    answerer: Answerer, warmups: dict[str, Sequence[list[int]]], sources: list[list[int]], references: list[list[int]]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """For each kind of warmup the predictions, and the nats of all references together."""
    backbone, size = answerer.backbone, answerer.inputs_at_once(len(warmups))
    assert answerer.limits.warmup is not None
    predictions = {kind: [""] * len(sources) for kind in warmups}
    nats = dict.fromkeys(warmups, 0.0)
    for chosen, encoded in encoded_batches(backbone, sources, size, "substituted warmups", shared=True):
        of_each = [[rows[index] for rows in warmups.values()] for index in chosen]
        for index, given, targets in zip(chosen, of_each, answerer.write_after(encoded, of_each), strict=True):
            for kind, warmup in zip(warmups, given, strict=True):
                predictions[kind][index] = decoded_text(backbone, targets[tuple(warmup)])
        written = as_written(of_each, answerer.limits.warmup, backbone.tokenizer.pad_token_id)
        for scores in score_candidates(backbone, encoded, written, [[references[index]] for index in chosen]):
            for kind, logprob in zip(warmups, scores[0].tolist(), strict=True):
                nats[kind] -= logprob
    return predictions, nats


def _chosen_given(
    answerer: Answerer,
    warmups: dict[str, Sequence[list[int]]],
    sources: list[list[int]],
    options: Sequence[Sequence[str]],
) -> dict[str, list[str]]:
    """For each kind of warmup the likeliest option of each source behind it."""
    backbone, size = answerer.backbone, answerer.evaluation.batch_size
    assert answerer.limits.warmup is not None
    chosen_of = {kind: [""] * len(sources) for kind in warmups}
    for chosen, encoded in encoded_batches(backbone, sources, size, "options after substituted warmups", True):
        of_each = [[rows[index] for rows in warmups.values()] for index in chosen]
        written = as_written(of_each, answerer.limits.warmup, backbone.tokenizer.pad_token_id)
        rows = [answerer.option_rows(options[index]) for index in chosen]
        for index, scores in zip(chosen, score_candidates(backbone, encoded, written, rows), strict=True):
            for kind, place in zip(warmups, scores.argmax(0).tolist(), strict=True):
                chosen_of[kind][index] = options[index][place]
    return chosen_of


def other_inputs(count: int) -> list[int]:
    """For each of `count` inputs another one, seeded; each is taken once, and none stays its own (but a single one)."""
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
    return [after for _, after in sorted(zip(order, order[1:] + order[:1], strict=True))]
