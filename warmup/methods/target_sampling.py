"""Drawing targets from p(y|x) itself, token by token, for models that are asked for several candidates."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from warmup.methods.noise import Noise, invert
from warmup.models.backbone import Backbone
from warmup.models.families import Encoded


@torch.no_grad()
def sample_targets(
    backbone: Backbone, encoded: Encoded, count: int, limit: int, prefix: Sequence[int], noise: Noise
) -> list[list[list[int]]]:
    """`count` independent targets of each of B inputs after `prefix`, at temperature 1 from the whole vocabulary.

    Token ids, at most `limit`; what follows a `</s>` means nothing. The caller switches dropout off.
    """
    model, family = backbone.model, backbone.family
    uniform = noise.uniform(count, limit).flatten(0, 1)  # [B * count, limit]
    logits, state = family.prefill(model, encoded, count, len(prefix) + limit)
    logits = logits.repeat_interleave(count, dim=0)
    for token in prefix:
        logits = family.step(model, state, torch.full_like(uniform[:, 0], token, dtype=torch.long))
    columns = []
    ended = torch.zeros_like(uniform[:, 0], dtype=torch.bool)
    for position in range(limit):
        columns.append(invert(logits.double().softmax(-1), uniform[:, position]))
        ended |= columns[-1] == backbone.tokenizer.eos_token_id
        if position + 1 == limit or bool(ended.all()):
            break
        logits = family.step(model, state, columns[-1])
    rows: list[list[list[int]]] = torch.stack(columns, dim=-1).view(len(encoded.ids), count, -1).tolist()
    return rows
