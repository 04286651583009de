"""What the answers owe to the warmup: the test set answered again given another input's warmup, and given none.

If warmups carry something about their input, the answers get worse given another input's. If only writing one helps
(more computation before the answer), they get worse given the empty one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from warmup.answering.answerer import Answerer, encoded_batches
from warmup.answering.marginal import score_candidates
from warmup.data.examples import Example
from warmup.methods.sampling import as_written
from warmup.models.encoding import decoded_text, encode_sources, encode_targets
from warmup.models.modes import evaluation_mode

MOST_SUBSTITUTED = 500  # the first ones: enough to see an effect, at a fraction of the test set's decoding time
SHUFFLE_SEED = 1


@dataclass(frozen=True)
class AnswersGiven:
    """Answers given one kind of warmup, in the order of the examples."""

    predictions: list[str]
    target_nll: float  # of the references, in nats per token
    changed: float  # share of predictions that are others than given the inputs' own warmups


@dataclass(frozen=True)
class Substitution:
    """`kinds`: given an input's `own` warmup, another input's (`shuffled`) and the `empty` one.

    A single example has no other input: `shuffled` is then left out.
    """

    examples: int
    same_warmup: float  # share of inputs whose shuffled warmup equals their own
    kinds: dict[str, AnswersGiven]


@torch.no_grad()
def substitute_warmups(answerer: Answerer, examples: Sequence[Example]) -> Substitution:
    """Answer the first `MOST_SUBSTITUTED` examples, which have references, given each kind of warmup.

    The model writes warmups. One of an input is examined, greedy, by beam or drawn, whatever `num_warmups` is.
    """
    examples = examples[:MOST_SUBSTITUTED]
    sources = encode_sources(answerer.backbone, examples, answerer.limits.source, "test")
    references = encode_targets(answerer.backbone, examples, answerer.limits.target, "test")
    with evaluation_mode(answerer.backbone.model.modules()):
        own = _own_warmups(answerer, sources)
        warmups: dict[str, list[list[int]]] = {
            "own": own,
            "shuffled": [own[other] for other in other_inputs(len(own))],
            "empty": [[] for _ in own],
        }
        same = sum(before == now for before, now in zip(own, warmups["shuffled"], strict=True))
        if len(own) == 1:
            del warmups["shuffled"]
        predictions, nats = _answer_given(answerer, warmups, sources, references)
    tokens = sum(map(len, references))

    def answers_given(kind: str) -> AnswersGiven:
        changed = sum(now != before for now, before in zip(predictions[kind], predictions["own"], strict=True))
        return AnswersGiven(predictions[kind], nats[kind] / tokens, changed / len(own))

    return Substitution(len(own), same / len(own), {kind: answers_given(kind) for kind in warmups})


def _own_warmups(answerer: Answerer, sources: list[list[int]]) -> list[list[int]]:
    own: list[list[int]] = [[] for _ in sources]
    for chosen, encoded in encoded_batches(answerer.backbone, sources, answerer.evaluation.batch_size, "warmups"):
        for index, warmup in zip(chosen, answerer.write_warmups(encoded), strict=True):
            own[index] = warmup
    return own


def _answer_given(
    answerer: Answerer, warmups: dict[str, list[list[int]]], sources: list[list[int]], references: list[list[int]]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """For each kind of warmup the predictions, and the nats of all references together."""
    backbone, size = answerer.backbone, answerer.evaluation.batch_size
    assert answerer.limits.warmup is not None
    predictions = {kind: [""] * len(sources) for kind in warmups}
    nats = dict.fromkeys(warmups, 0.0)
    for chosen, encoded in encoded_batches(backbone, sources, size, "substituted warmups"):
        for kind, rows in warmups.items():
            targets = answerer.write_targets(encoded, [[*rows[index], *backbone.separator] for index in chosen])
            for index, target in zip(chosen, targets, strict=True):
                predictions[kind][index] = decoded_text(backbone, target)
        of_each = [[rows[index] for rows in warmups.values()] for index in chosen]
        written = as_written(of_each, answerer.limits.warmup, backbone.tokenizer.pad_token_id)
        for scores in score_candidates(backbone, encoded, written, [[references[index]] for index in chosen]):
            for kind, logprob in zip(warmups, scores[0].tolist(), strict=True):
                nats[kind] -= logprob
    return predictions, nats


def other_inputs(count: int) -> list[int]:
    """For each of `count` inputs another one, seeded; each is taken once, and none stays its own (but a single one)."""
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
    return [after for _, after in sorted(zip(order, order[1:] + order[:1], strict=True))]
