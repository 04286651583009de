"""A recognition proposal q(c|x,y): the same model, shown the target beside the source, proposes warmups.

As in reweighted wake-sleep (Bornschein and Bengio 2015). Draws from p(c|x) rarely explain y better than one another;
draws from q can. Half of an input's warmups come from p and half from q, and each is weighed against that mixture
(Veach and Guibas 1995), so no weight exceeds 1 / (the number of draws from p): an untrained q costs half of the draws
and nothing else. q learns from the posterior weights, by the gradient of sum_k w_k log q(c_k|x,y).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from warmup.config.schema import WarmupMethod
from warmup.methods.noise import Noise
from warmup.methods.output_layer import Totals
from warmup.methods.sampling import Warmups, beside, even_weights, sample_warmups
from warmup.methods.scoring import Reading, read_warmups, score_read, shared_dropout, weigh_read
from warmup.models.backbone import Backbone
from warmup.models.encoding import IGNORED_LABEL, source_batch
from warmup.models.families import Encoded
from warmup.models.modes import evaluation_mode


@dataclass(frozen=True)
class Recognition:
    """Warmups of which the first `from_prior` were drawn from p(c|x), the others from q(c|x,y)."""

    warmups: Warmups
    from_prior: int
    read: Reading  # all of them after source and target, with gradient
    logprob: Tensor  # [B, K] log q(c_k|x,y)

    @classmethod
    def draw(
        cls, backbone: Backbone, method: WarmupMethod, encoded: Encoded, labels: Tensor, noise: Noise
    ) -> Recognition:
        """Draw half of the K warmups (rounded down) from p and the rest from q, and score all under q."""
        shown = shown_target(backbone, encoded, labels)
        from_prior = method.num_samples // 2
        limit, parts = method.max_warmup_tokens, []
        with evaluation_mode(backbone.model.modules()):
            if from_prior:
                parts.append(sample_warmups(backbone, encoded, from_prior, limit, noise))
            parts.append(sample_warmups(backbone, shown, method.num_samples - from_prior, limit, noise))
        warmups = beside(parts, even_weights(len(labels), method.num_samples))
        dropout = shared_dropout(backbone, limit, labels)
        read = read_warmups(backbone, shown, warmups, torch.full_like(labels, IGNORED_LABEL), dropout)
        return cls(warmups, from_prior, read, score_read(backbone, read).warmup_logprob)

    def log_prior_weight(self, totals: Totals, inputs: slice) -> Tensor:
        """[b, K] log p(c) - log(K_p p(c) + K_q q(c)), K_p and K_q being the numbers of draws from each."""
        own = totals.warmup_logprob.detach()
        counts = torch.tensor([self.from_prior, self.warmups.count - self.from_prior], device=own.device).log()
        return own - torch.logaddexp(own + counts[0], self.logprob[inputs] + counts[1])

    def loss(self, backbone: Backbone, posterior: Tensor) -> Tensor:
        """The sum over the batch of -sum_k w_k log q(c_k|x,y), for posterior weights [B, K]."""
        value, _ = weigh_read(
            backbone, self.read, lambda totals, inputs: -(posterior[inputs] * totals.warmup_logprob).sum(-1)
        )
        return value - value.detach()  # it has a gradient, and leaves the logged loss an estimate of -log p(y|x)


def shown_target(backbone: Backbone, encoded: Encoded, labels: Tensor) -> Encoded:
    """The sources of a batch read anew, each with its target in front; with gradient where it is enabled."""
    rows = [
        backbone.family.recognition_ids(
            ids[kept.bool()].tolist(), label[label != IGNORED_LABEL].tolist()[:-1], backbone.separator_id
        )
        for ids, kept, label in zip(encoded.ids.cpu(), encoded.mask.cpu(), labels.cpu(), strict=True)
    ]
    batch = source_batch(backbone, rows)
    device = encoded.ids.device
    return backbone.family.encode(backbone.model, batch["input_ids"].to(device), batch["attention_mask"].to(device))
