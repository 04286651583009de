"""What the answers owe to the warmup: the test set answered again behind another input's warmup, and behind none.

If warmups carry something about their input, the answers get worse behind another input's. If only writing one helps
(more computation before the answer), they get worse behind the empty one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from warmup.answering.answer import Limits, options_of_all
from warmup.answering.decoding import encoded_batches, write_targets, write_warmups
from warmup.answering.marginal import score_candidates
from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.methods.sampling import as_written
from warmup.metrics.evaluation import compute_metrics
from warmup.models.encoding import encode_sources, encode_targets, text_of
from warmup.models.loading import Backbone
from warmup.models.modes import evaluation_mode

MOST_EXAMPLES = 500  # the first ones: enough to see an effect, at a fraction of the test set's decoding time
SEED = 1  # of the shuffle


@torch.no_grad()
def substitute_warmups(
    backbone: Backbone,
    examples: Sequence[Example],
    limits: Limits,
    config: EvaluationConfig,
    metrics: Sequence[str],
    target_language: str | None,
    seed: int = 1,
) -> dict[str, Any]:
    """Answer behind each input's own warmup, another input's ("shuffled") and an empty one, and score all three.

    Args:
        examples: with references; the first `MOST_EXAMPLES` are used.
        limits: of a model that writes warmups.
        config: one warmup is examined, greedy, by beam or drawn, whatever `num_warmups` is.
        metrics: of `METRIC_SCORES`, without neural ones.
        seed: of drawn warmups.

    Returns:
        What `warmup_analysis.json` says: how many `examples`; `same_warmup`, the share of inputs whose shuffled
        warmup equals their own; and for each of `own`, `shuffled`, `empty` the `scores` in percent, the references'
        `target_nll` in nats per token and the share of answers `changed` against `own`. A single example has no
        other input: `shuffled` is then left out.
    """
    assert limits.warmup is not None
    examples = examples[:MOST_EXAMPLES]
    sources = encode_sources(backbone, examples, limits.source, "test")
    reference_ids = encode_targets(backbone, examples, limits.target, "test")
    with evaluation_mode(backbone.model.modules()):
        own: list[list[int]] = [[] for _ in sources]
        for chosen, encoded in encoded_batches(backbone, sources, config.batch_size, "warmups"):
            for index, warmup in zip(
                chosen, write_warmups(backbone, encoded, limits.warmup, config, seed), strict=True
            ):
                own[index] = warmup
        order = other_inputs(len(own))
        prefixes: dict[str, list[list[int]]] = {
            "own": own,
            "shuffled": [own[index] for index in order],
            "empty": [[] for _ in own],
        }
        if len(own) == 1:
            del prefixes["shuffled"]
        answered = {name: [""] * len(own) for name in prefixes}
        nats = dict.fromkeys(prefixes, 0.0)
        for chosen, encoded in encoded_batches(backbone, sources, config.batch_size, "substituted warmups"):
            for name, warmups in prefixes.items():
                prefix = [[*warmups[index], backbone.separator_id] for index in chosen]
                targets = write_targets(backbone, encoded, prefix, limits.target, config)
                for index, target in zip(chosen, targets, strict=True):
                    answered[name][index] = text_of(backbone, target)
            of_each = [[kind[index] for kind in prefixes.values()] for index in chosen]
            written = as_written(of_each, limits.warmup, backbone.tokenizer.pad_token_id)
            for scores in score_candidates(backbone, encoded, written, [[reference_ids[index]] for index in chosen]):
                for name, logprob in zip(prefixes, scores[0].tolist(), strict=True):
                    nats[name] -= logprob
    references, texts = [example.target or "" for example in examples], [example.source for example in examples]
    options, tokens = options_of_all(examples), sum(map(len, reference_ids))

    def measured(name: str) -> dict[str, Any]:
        evaluation = compute_metrics(metrics, answered[name], references, texts, target_language, options=options)
        changed = sum(now != before for now, before in zip(answered[name], answered["own"], strict=True))
        return {
            "scores": {metric: score.value for metric, score in evaluation.scores.items()},
            "target_nll": nats[name] / tokens,
            "changed": changed / len(own),
        }

    same = sum(before == now for before, now in zip(own, prefixes.get("shuffled", own), strict=True))
    return {
        "examples": len(own),
        "same_warmup": same / len(own),
        "warmups": {name: measured(name) for name in prefixes},
    }


def other_inputs(count: int) -> list[int]:
    """For each of `count` inputs another one, seeded; each is taken once, and none stays its own (but a single one)."""
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(SEED)).tolist()
    return [after for _, after in sorted(zip(order, order[1:] + order[:1], strict=True))]
