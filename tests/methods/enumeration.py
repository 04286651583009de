"""Brute force on a tiny vocabulary: every warmup there is, with its exact probability, by the oracle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.methods.oracle import Scores, score
from warmup.methods.noise import Noise
from warmup.methods.sampling import Warmups, even_weights
from warmup.models.backbone import Backbone
from warmup.models.families import Encoded

LABELS = torch.tensor([[7, 8, 1]])
LIMIT = 2
# Factors of the fresh model's blocks and of its output layer. With them no warmup has a probability above 0.4, and the
# log-likelihood of the target varies by 0.6 to 0.8 nats with the warmup, or nothing here could fail.
SHARPNESS = {"t5": (3.0, 1.0), "mt5": (1.0, 0.2), "llama": (20.0, 5.0)}
ORDINARY = [260, 261, 262]  # the only tokens that a warmup may hold: with the separator a vocabulary of four


def sharpen(backbone: Backbone, architecture: str) -> Backbone:
    """In float64, with warmups made of three tokens."""
    backbone.model.double()
    blocks, head = SHARPNESS[architecture]
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if weight.dim() == 2 and (".layers." in name or ".block." in name):
                weight.mul_(blocks)
        backbone.model.get_output_embeddings().weight.mul_(head)
    forbidden = torch.ones(backbone.model.config.vocab_size, dtype=torch.bool)
    forbidden[[*ORDINARY, backbone.separator_id]] = False
    backbone.__dict__["never_in_warmup"] = forbidden
    return backbone


@dataclass
class Everything:
    """One input, all of its warmups, and their exact scores with gradient."""

    backbone: Backbone
    ids: Tensor
    mask: Tensor
    warmups: Warmups
    scores: Scores

    @classmethod
    def of(cls, backbone: Backbone) -> Everything:
        source = [265, 270, 268, backbone.separator_id]
        warmups = every_warmup(backbone.tokenizer.pad_token_id)
        scores = score(backbone, [source], warmups, LABELS)
        return cls(backbone, torch.tensor([source]), torch.ones(1, len(source), dtype=torch.long), warmups, scores)

    def copies(self, count: int) -> tuple[Encoded, Noise]:
        """The input `count` times, each with random numbers of its own."""
        encoded = self.backbone.family.encode(self.backbone.model, self.ids, self.mask).detach()
        return encoded.select(torch.zeros(count, dtype=torch.long)), Noise(torch.arange(count))

    def log_likelihood(self) -> Tensor:
        """log p(y|x) = log sum_c p(c|x) p(y|x,c) over all warmups, with gradient."""
        return (self.scores.warmup_logprob + self.scores.target_logprob).logsumexp(-1).sum()

    def gradient(self, value: Tensor) -> Tensor:
        return gradient(value, self.backbone.model)

    def combine(self, target: Tensor, warmup: Tensor) -> Tensor:
        """sum_c target_c grad l_c + warmup_c grad s_c over all warmups."""
        return self.gradient(
            (target.detach() * self.scores.target_logprob[0] + warmup.detach() * self.scores.warmup_logprob[0]).sum()
        )

    def index(self, tokens: Tensor) -> Tensor:
        """Which of all warmups each row [..., M] is."""
        seen = {tuple(row): index for index, row in enumerate(self.warmups.tokens[0].tolist())}
        flat = [seen[tuple(row)] for row in tokens.flatten(0, -2).tolist()]
        return torch.tensor(flat).view(tokens.shape[:-1])


def every_warmup(padding: int) -> Warmups:
    """All warmups of at most `LIMIT` tokens out of `ORDINARY`, for one input: [1, all, LIMIT]."""
    rows = [list(tokens) for length in range(LIMIT + 1) for tokens in itertools.product(ORDINARY, repeat=length)]
    tokens = torch.tensor([[row + [padding] * (LIMIT - len(row)) for row in rows]])
    lengths = torch.tensor([[len(row) for row in rows]])
    return Warmups(tokens, lengths, lengths == LIMIT, even_weights(1, len(rows)))


def gradient(value: Tensor, model: nn.Module) -> Tensor:
    """Of all parameters, in one vector."""
    parts = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(model.parameters(), parts, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])
