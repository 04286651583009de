"""A batch whose every possible warmup can be listed, so that the gradient of log p(y|x) is known exactly.

A warmup holds at most two of three tokens, so there are 13 of them. The model is tiny, and has no dropout.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import T5Config, T5ForConditionalGeneration

from warmup.methods.recognition import shown_target
from warmup.methods.sampling import Warmups, as_written
from warmup.methods.scoring import read_warmups, weigh_read
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL, source_batch
from warmup.models.t5 import T5
from warmup.studies.bare_backbone import END_ID, PAD_ID, SEPARATOR_ID, bare_backbone
from warmup.studies.naive import naive_scores

LIMIT = 2  # tokens of a warmup
WARMUP_TOKENS = (3, 4, 5)
WARMUPS = 13  # of those three tokens: one of none, three of one, nine of two
WORDS = 18  # 6 to 9 stand in targets, 10 to 17 in sources
INPUTS = 16


@dataclass(frozen=True)
class Problem:
    """A batch of I inputs and targets; gradients are vectors [D] in an orthonormal basis of all that may occur."""

    backbone: Backbone
    ids: Tensor  # [I, S]
    mask: Tensor  # [I, S]
    labels: Tensor  # [I, T]
    of_target: Tensor  # [I * WARMUPS, D] gradients of log p(y|x,c)
    of_warmup: Tensor  # [I * WARMUPS, D] gradients of log p(c|x)
    exact_target: Tensor  # [D] the target term of the gradient of log p(y|x), summed over the batch
    exact_warmup: Tensor  # [D] its warmup term


def every_warmup() -> Warmups:
    """[1, WARMUPS, LIMIT] all warmups that there are."""
    rows = [list(row) for length in range(LIMIT + 1) for row in itertools.product(WARMUP_TOKENS, repeat=length)]
    return as_written([rows], LIMIT, PAD_ID)


def tiny_backbone() -> Backbone:
    """A tiny T5 with random weights, without dropout, in float64."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    ids = {"pad_token_id": PAD_ID, "eos_token_id": END_ID, "decoder_start_token_id": PAD_ID}
    model = T5ForConditionalGeneration(T5Config(vocab_size=WORDS, **ids, **sizes)).double().eval()
    never = torch.ones(WORDS, dtype=torch.bool)
    never[[SEPARATOR_ID, *WARMUP_TOKENS]] = False
    return bare_backbone(model, T5(), never)


def source_of(number: int) -> list[int]:
    """The source of an input, without `</s>`."""
    return [10 + number // 4, 14 + number % 4]


def target_of(number: int, warmup: list[int]) -> list[int]:
    """The target, without `</s>`: of every other input it spells the warmup, of the others it is one and the same."""
    spelled = [6 + WARMUP_TOKENS.index(token) for token in warmup] + [9] * LIMIT
    return spelled[:LIMIT] if number % 2 == 0 else [6 + number % 3, 6 + number // 2 % 3]


def teach(backbone: Backbone, steps: int) -> None:
    """Teach p(c|x) to be even, p(y|x,c) as `target_of` says, and the recognition proposal q(c|x,y)."""
    everything = every_warmup()
    inputs = torch.arange(INPUTS).repeat_interleave(WARMUPS)
    places = torch.arange(WARMUPS).repeat(INPUTS)[:, None]
    warmups = everything.select(places, torch.zeros_like(inputs))
    written = [row[:length] for row, length in zip(warmups.tokens[:, 0].tolist(), warmups.lengths[:, 0], strict=True)]
    labels = torch.tensor([[*target_of(*pair), END_ID] for pair in zip(inputs.tolist(), written, strict=True)])
    batch = source_batch(backbone, [[*source_of(number), END_ID] for number in inputs.tolist()])
    nothing = torch.full_like(labels, IGNORED_LABEL)
    optimizer = torch.optim.Adam(backbone.model.parameters(), lr=5e-3)
    for _ in tqdm(range(steps), desc="training", unit="step", leave=False):
        encoded = backbone.family.encode(backbone.model, batch["input_ids"], batch["attention_mask"])
        shown = shown_target(backbone, encoded, labels)
        reads = (read_warmups(backbone, encoded, warmups, labels), read_warmups(backbone, shown, warmups, nothing))
        for read in reads:
            value, _ = weigh_read(
                backbone, read, lambda found, _: -(found.target_logprob + found.warmup_logprob).mean(-1)
            )
            (value / len(inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()


def with_exact_gradients(backbone: Backbone) -> Problem:
    """Each input with one target; the gradients of all its warmups, one by one, and the exact one."""
    everything = every_warmup()
    batch = source_batch(backbone, [[*source_of(number), END_ID] for number in range(INPUTS)])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    two_tokens = everything.tokens[0, everything.lengths[0] == LIMIT].tolist()
    labels = torch.tensor([[*target_of(number, two_tokens[number // 2]), END_ID] for number in range(INPUTS)])
    parameters = list(backbone.model.parameters())
    gradients, posterior = [], []
    for number in tqdm(range(INPUTS), desc="exact gradients", unit="input", leave=False):
        one = slice(number, number + 1)
        scores = naive_scores(backbone, ids[one], mask[one], everything, labels[one])
        posterior.append((scores.target_logprob + scores.warmup_logprob)[0].detach().softmax(-1))
        for value in torch.cat([scores.target_logprob[0], scores.warmup_logprob[0]]):
            parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
    triangle = torch.linalg.qr(torch.stack(gradients, dim=1), mode="r").R  # inner products are those of its columns
    basis = triangle.T.view(INPUTS, 2, WARMUPS, -1)
    of_target, of_warmup = basis[:, 0].flatten(0, 1), basis[:, 1].flatten(0, 1)
    weights = torch.cat(posterior)
    return Problem(backbone, ids, mask, labels, of_target, of_warmup, weights @ of_target, weights @ of_warmup)
