"""Every number of a substitution by hand: plain Hugging Face forwards of one input at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.answering.test_decoding import lively
from warmup.answering.answerer import Answerer
from warmup.answering.substitution import other_inputs, substitute_warmups, substitutes
from warmup.config.schema import EvaluationConfig
from warmup.data.examples import Example
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits

LIMITS = Limits(source=12, warmup=3, target=6)
# The second and the third are the same, so their warmups are: one of them gets its own back from the other.
SOURCES = ["the quick brown fox", "we like books", "we like books", "a small red ball rolls", "lazy dog jumps"]
TARGETS = ["a fox", "books", "the lazy dog jumps", "red", "over the hill"]
EXAMPLES = [Example(source, source, target) for source, target in zip(SOURCES, TARGETS, strict=True)]


class ByHand:
    """Greedy answers and likelihoods, token by token, from the model's forward pass alone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.tokenizer = backbone, backbone.tokenizer
        self.encoder_decoder = backbone.model.config.is_encoder_decoder
        end = self.tokenizer.eos_token_id
        self.targets = [[*self.ids(text)[: LIMITS.target - 1], end] for text in TARGETS]
        if self.encoder_decoder:
            self.sources = [[*self.ids(text)[: LIMITS.source - 1], end] for text in SOURCES]
        else:
            first, sep = self.tokenizer.bos_token_id, backbone.separator_id
            self.sources = [[*[first, *self.ids(text)][: LIMITS.source - 1], sep] for text in SOURCES]

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def logprobs(self, index: int, written: list[int]) -> torch.Tensor:
        """[L + 1, V] of each token of `written`, and of the one after it."""
        source = self.sources[index]
        if self.encoder_decoder:
            start = self.backbone.model.config.decoder_start_token_id
            ids = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[start, *written]])}
            return self.backbone.model(**ids).logits[0].log_softmax(-1)
        logits = self.backbone.model(input_ids=torch.tensor([[*source, *written]])).logits[0]
        return logits[len(source) - 1 :].log_softmax(-1)

    def greedy(self, index: int, prefix: list[int], limit: int, end: int, forbidden: list[int]) -> list[int]:
        written: list[int] = []
        while len(written) < limit:
            scores = self.logprobs(index, [*prefix, *written])[-1]
            scores[forbidden] = float("-inf")
            token = int(scores.argmax())
            if token == end:
                break
            written.append(token)
        return written

    def warmup(self, index: int) -> list[int]:
        forbidden = self.backbone.never_in_warmup.nonzero().flatten().tolist()
        return self.greedy(index, [], 3, self.backbone.separator_id, forbidden)

    def answer(self, index: int, warmup: list[int]) -> str:
        prefix = [*warmup, self.backbone.separator_id]
        ids = self.greedy(index, prefix, LIMITS.target, self.tokenizer.eos_token_id, [])
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def nll(self, index: int, warmup: list[int]) -> float:
        written = [*warmup, self.backbone.separator_id, *self.targets[index]]
        logprobs = self.logprobs(index, written[:-1])
        return -sum(float(logprobs[at, written[at]]) for at in range(len(warmup) + 1, len(written)))


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_every_number_is_that_of_plain_forwards(make_backbone: Callable[..., Backbone], architecture: str) -> None:
    backbone = lively(make_backbone(architecture))
    hand, everyone = ByHand(backbone), range(len(EXAMPLES))
    own = [hand.warmup(index) for index in everyone]
    order = other_inputs(len(EXAMPLES))
    prefixes = {
        "own": own,
        "shuffled": [own[other] for other in order],
        "random": substitutes(backbone, own, SOURCES)["random"],
        "constant": [max(own, key=own.count) for _ in own],
        "source_start": [hand.ids(text)[: len(row)] for text, row in zip(SOURCES, own, strict=True)],
        "empty": [[] for _ in own],
    }
    before = [hand.answer(index, own[index]) for index in everyone]
    found = substitute_warmups(Answerer(backbone, LIMITS, EvaluationConfig(batch_size=2)), EXAMPLES)
    assert found.examples == len(EXAMPLES)
    assert found.same_warmup == sum(own[i] == own[other] for i, other in enumerate(order)) / len(EXAMPLES)
    tokens = sum(map(len, hand.targets))
    for name, warmups in prefixes.items():
        part = found.kinds[name]
        nll = sum(hand.nll(index, warmups[index]) for index in everyone) / tokens
        assert part.target_nll == pytest.approx(nll, rel=1e-4)
        answers = [hand.answer(index, warmups[index]) for index in everyone]
        assert part.predictions == answers
        assert part.changed == sum(now != then for now, then in zip(answers, before, strict=True)) / len(EXAMPLES)
    assert list(found.kinds) == list(prefixes)
    nlls = {str(prefixes[name]): part.target_nll for name, part in found.kinds.items()}
    assert len(nlls) >= 5  # the tiny Llama's constant warmup is empty
    assert min(abs(nlls[one] - nlls[other]) for one in nlls for other in nlls if one != other) > 4e-4  # told apart
    assert found.kinds["empty"].changed > 0


def test_equal_inputs_share_their_warmup(make_backbone: Callable[..., Backbone]) -> None:
    order = other_inputs(3)
    texts = [Example("we", "we", "x"), Example("books", "books", "y"), Example("we", "we", "z")]
    own = ["we", "books", "we"]
    found = substitute_warmups(Answerer(lively(make_backbone("t5")), LIMITS, EvaluationConfig()), texts)
    assert found.examples == 3
    shared = sum(own[i] == own[other] for i, other in enumerate(order))
    assert shared == 1 and found.same_warmup == pytest.approx(1 / 3)
