"""Two-phase decoding: write the warmup, force the separator at the limit as training did, then write the target.

With `evaluation.num_warmups` above 1, several warmups are drawn and the answer is the target that they make likeliest.
A model without warmups answers with the likeliest of `evaluation.num_candidates` targets: the greedy one, and draws.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor

from warmup.answering.marginal import best, score_candidates
from warmup.config.schema import EvaluationConfig
from warmup.config.templates import check_option_template
from warmup.data.examples import Example, Wording, options_of_all
from warmup.methods.noise import Noise, input_seeds
from warmup.methods.sampling import Warmups, as_written, sample_warmups
from warmup.methods.target_sampling import sample_targets
from warmup.models.backbone import Backbone, never_in_warmups
from warmup.models.checkpoint_settings import Limits
from warmup.models.encoding import IGNORED_LABEL, decoded_text, encode_sources, source_batch
from warmup.models.families import Encoded
from warmup.models.modes import evaluation_mode
from warmup.models.sharpening import Allowed, SharpenedBeams
from warmup.models.tokenizers import text_ids


class NoRepeatInTarget(NoRepeatNGramLogitsProcessor):
    """transformers' own, but that it does not see what stands before the target: source, warmup, separator."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.before: int | None = None  # tokens of each row, known at the first call

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.before = input_ids.shape[1] if self.before is None else self.before
        return super().__call__(input_ids[:, self.before :], scores)


# of drawn warmups or candidates in a batch, for each input of `evaluation.batch_size`: fewer and larger steps cost less
DRAWS_PER_INPUT = 4


@dataclass(frozen=True)
class Answer:
    """What the model wrote for one source."""

    warmup: str | None  # None for a model that writes none
    prediction: str


@dataclass(frozen=True)
class Answerer:
    """A model with all that decides how it answers. Sources are token ids, `encoded` is a batch of them, read."""

    backbone: Backbone
    limits: Limits  # without one of warmups the target is decoded directly, or after pauses, as it was trained
    evaluation: EvaluationConfig
    seed: int = 1  # of drawn warmups; they depend on it and on the source's tokens, not on batches or processes

    def answer(self, examples: Sequence[Example], split: str, wording: Wording) -> tuple[list[Answer], float]:
        """Answers in the order of `examples`, shared out over all processes, and the seconds it took.

        With `evaluation.answer_by=likelihood`, and with `evaluation.num_warmups` or `evaluation.num_candidates` above
        1, a question with options is answered by scoring them, with and without warmups.

        Raises:
            UserError: its options cannot be worded without the record.
        """
        sources = encode_sources(self.backbone, examples, self.limits.source, split)
        options = None
        if wording.options is not None and self.evaluation.ranks:
            check_option_template(wording.target_template, wording.options.answer or "")
            options = self.options_of(examples)
        return self.answer_encoded(sources, split, options)

    def options_of(self, examples: Sequence[Example]) -> list[tuple[str, ...]] | None:
        """The worded options of each example where they are scored and nothing is written, else None."""
        return options_of_all(examples) if self.evaluation.ranks else None

    def answer_encoded(
        self, sources: Sequence[list[int]], split: str, options: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[Answer], float]:
        """The same for sources that are token ids already, and the worded options of each."""
        started = time.monotonic()
        cpu = next(self.backbone.model.parameters()).device.type == "cpu"
        with PartialState(cpu=cpu).split_between_processes(list(range(len(sources)))) as share:
            offered = options and [options[index] for index in share]
            answers = self.decode([sources[index] for index in share], f"decoding {split}", offered)
        if PartialState().num_processes > 1:
            answers = gather_object(answers)
        return answers, time.monotonic() - started

    @torch.no_grad()
    def decode(
        self, sources: Sequence[list[int]], description: str, options: Sequence[Sequence[str]] | None = None
    ) -> list[Answer]:
        """Answer each source in this process, in the order given; batches are sorted by length to save padding.

        Args:
            description: of the bar, which shows inputs per second and the time left.
            options: of each source the answers to choose from, by their marginal likelihood over `num_warmups` warmups;
                None writes the answer.
        """
        answers: dict[int, Answer] = {}
        evaluation = self.evaluation
        draws = evaluation.num_candidates if self.limits.warmup is None else evaluation.num_warmups
        size = self.inputs_at_once(draws)
        with evaluation_mode(self.backbone.model.modules()):
            scored = draws > 1 or options is not None
            for chosen, encoded in encoded_batches(self.backbone, sources, size, description, scored):
                if options is None:
                    written = self.write_answers(encoded)
                else:
                    written = self.choose_options(encoded, [options[index] for index in chosen])
                answers.update(zip(chosen, written, strict=True))
        return [answers[index] for index in range(len(sources))]

    def inputs_at_once(self, rows: int) -> int:
        """The inputs of a batch where each is continued in so many rows."""
        size = self.evaluation.batch_size
        return max(1, min(size, DRAWS_PER_INPUT * size // rows))

    def write_answers(self, encoded: Encoded) -> list[Answer]:
        """Answers of one batch."""
        if self.limits.warmup is None:
            targets = self.write_targets(encoded, [self._prefix for _ in encoded.ids])
            if self.evaluation.num_candidates > 1:
                targets = self.likeliest(encoded, targets)
            return [Answer(None, self._text(target)) for target in targets]
        if self.evaluation.num_warmups > 1:
            return self.rank_targets(encoded, self.draw(encoded, self.evaluation.num_warmups))
        written = self.write_warmups(encoded)
        targets = self.write_targets(encoded, [[*warmup, *self.backbone.separator] for warmup in written])
        return [Answer(self._text(w), self._text(t)) for w, t in zip(written, targets, strict=True)]

    def rank_targets(self, encoded: Encoded, warmups: Warmups) -> list[Answer]:
        """A candidate target given each warmup, and of each input the one that all its warmups make likeliest.

        A candidate that the limit cut off is scored with the `</s>` that training would have put there.
        """
        rows = _token_rows(warmups)
        end = self.backbone.tokenizer.eos_token_id
        candidates = [
            [list(target) for target in dict.fromkeys(tuple(_ended(target, end)) for target in targets.values())]
            for targets in self.write_after(encoded, rows)
        ]
        answers = []
        scored = score_candidates(self.backbone, encoded, warmups, candidates)
        for row, written, scores in zip(rows, candidates, scored, strict=True):
            choice = best(scores)
            answers.append(Answer(self._text(row[choice.warmup]), self._text(written[choice.candidate])))
        return answers

    def likeliest(self, encoded: Encoded, targets: Sequence[list[int]]) -> list[list[int]]:
        """Of each input the likeliest by log p(y|x) of its target here and of `num_candidates - 1` that are drawn.

        A candidate that the limit cut off is scored with the `</s>` that training would have put there.
        """
        count, end = self.evaluation.num_candidates - 1, self.backbone.tokenizer.eos_token_id
        drawn = sample_targets(self.backbone, encoded, count, self.limits.target, self._prefix, self._noise(encoded))
        candidates = [
            [list(row) for row in dict.fromkeys(tuple(_ended(row, end)) for row in (first, *others))]
            for first, others in zip(targets, drawn, strict=True)
        ]
        scored = score_candidates(self.backbone, encoded, None, candidates, self._prefix)
        return [rows[best(scores).candidate] for rows, scores in zip(candidates, scored, strict=True)]

    def choose_options(self, encoded: Encoded, options: Sequence[Sequence[str]]) -> list[Answer]:
        """Of each input the option that its warmups make likeliest; without warmups, the likeliest.

        Several warmups are drawn; one is greedy, by beam or drawn, as for an answer that is written.
        """
        rows = [self.option_rows(own) for own in options]
        warmups = None
        if self.limits.warmup is not None and self.evaluation.num_warmups > 1:
            warmups = self.draw(encoded, self.evaluation.num_warmups)
        elif self.limits.warmup is not None:
            written = [[row] for row in self.write_warmups(encoded)]
            warmups = as_written(written, self.limits.warmup, self.backbone.tokenizer.pad_token_id)
        scored = score_candidates(self.backbone, encoded, warmups, rows, self._prefix)
        choices = [best(scores) for scores in scored]
        if warmups is None:
            return [Answer(None, own[choice.candidate]) for own, choice in zip(options, choices, strict=True)]
        return [
            Answer(self._text(drawn[choice.warmup]), own[choice.candidate])
            for drawn, own, choice in zip(_token_rows(warmups), options, choices, strict=True)
        ]

    def option_rows(self, options: Sequence[str]) -> list[list[int]]:
        """The tokens of each worded option, with the `</s>` behind it."""
        tokenizer = self.backbone.tokenizer
        return [[*text_ids(tokenizer, option), tokenizer.eos_token_id] for option in options]

    def draw(self, encoded: Encoded, count: int) -> Warmups:
        """`count` warmups per input; more of them begin with those of a smaller `count`."""
        assert self.limits.warmup is not None
        return sample_warmups(self.backbone, encoded, count, self.limits.warmup, self._noise(encoded))

    def write_warmups(self, encoded: Encoded) -> list[list[int]]:
        """One warmup of each input, greedy, by beam or drawn, without its separator."""
        if self.evaluation.sample_warmup:
            return [row[0] for row in _token_rows(self.draw(encoded, 1))]
        beams, sharpening = self.evaluation.warmup_num_beams, self.backbone.sharpening
        processors: list[LogitsProcessor] = []
        if sharpening.vocabulary is not None:
            processors.append(Allowed(never_in_warmups(self.backbone, encoded).expand(len(encoded.ids), -1)))
        if beams > 1 and not sharpening.is_plain:  # the likeliest token is the same at any temperature
            processors.append(SharpenedBeams(sharpening))
        written = self.backbone.family.generate(
            self.backbone.model,
            encoded,
            [[] for _ in encoded.ids],
            max_new_tokens=self.limits.warmup,
            eos_token_id=self.backbone.separator_id,
            suppress_tokens=self.backbone.never_in_warmup.nonzero().flatten().tolist(),
            num_beams=beams,
            **({"logits_processor": processors} if processors else {}),
            pad_token_id=self.backbone.tokenizer.pad_token_id,
        )
        return [_until(row, self.backbone.separator_id, self.backbone.tokenizer.pad_token_id) for row in written]

    def write_targets(self, encoded: Encoded, prefix: list[list[int]]) -> list[list[int]]:
        """The target of each input after its prefix, greedy or by beam."""
        beams, penalty = self.evaluation.num_beams, self.evaluation.length_penalty
        fewest, once = self.evaluation.min_new_tokens, self.evaluation.no_repeat_ngram_size
        return self.backbone.family.generate(
            self.backbone.model,
            encoded,
            [[*row, *self.backbone.forced] for row in prefix],
            max_new_tokens=self.limits.target,
            eos_token_id=self.backbone.tokenizer.eos_token_id,
            num_beams=beams,
            **({"length_penalty": penalty} if beams > 1 else {}),
            **({"min_new_tokens": fewest} if fewest else {}),
            **({"logits_processor": [NoRepeatInTarget(once)]} if once else {}),
            pad_token_id=self.backbone.tokenizer.pad_token_id,
        )

    def write_after(
        self, encoded: Encoded, warmups: Sequence[Sequence[list[int]]]
    ) -> list[dict[tuple[int, ...], list[int]]]:
        """The target of each input after each of its `warmups`: equal ones have equal targets, written once."""
        pairs = [(index, warmup) for index, row in enumerate(warmups) for warmup in dict.fromkeys(map(tuple, row))]
        owner = torch.tensor([index for index, _ in pairs], device=encoded.ids.device)
        prefix = [[*warmup, *self.backbone.separator] for _, warmup in pairs]
        found: list[dict[tuple[int, ...], list[int]]] = [{} for _ in warmups]
        for (index, warmup), target in zip(pairs, self.write_targets(encoded.select(owner), prefix), strict=True):
            found[index][warmup] = target
        return found

    @cached_property
    def _prefix(self) -> list[int]:
        """What stands before every target of a model without warmups."""
        return self.backbone.pause_prefix(self.limits.pauses)

    def _noise(self, encoded: Encoded) -> Noise:
        without_target = torch.full_like(encoded.ids[:, :1], IGNORED_LABEL)
        return Noise(input_seeds(self.seed, 0, encoded.ids, encoded.mask, without_target))

    def _text(self, ids: list[int]) -> str:
        return decoded_text(self.backbone, ids)


def encoded_batches(
    backbone: Backbone, sources: Sequence[list[int]], size: int, description: str, shared: bool = False
) -> Iterator[tuple[list[int], Encoded]]:
    """Sources (token ids) in batches, sorted by length to save padding: which ones, and what the model read.

    `shared`: keys and values too, for several drawings or scorings; `generate` makes its own.
    """
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]), reverse=True)
    device = next(backbone.model.parameters()).device
    with tqdm(total=len(sources), desc=description, unit="input", leave=False, dynamic_ncols=True) as bar:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = source_batch(backbone, [sources[index] for index in chosen])
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            yield chosen, backbone.family.encode(backbone.model, ids, mask, shared)
            bar.update(len(chosen))


def _token_rows(warmups: Warmups) -> list[list[list[int]]]:
    """The tokens of each input's warmups, without padding."""
    return [
        [tokens[:length] for tokens, length in zip(*pair, strict=True)]
        for pair in zip(warmups.tokens.tolist(), warmups.lengths.tolist(), strict=True)
    ]


def _ended(row: list[int], end: int) -> list[int]:
    """A written target up to its `</s>`, which is added to one that has none."""
    return [*(row[: row.index(end)] if end in row else row), end]


def _until(row: list[int], separator_id: int, padding_id: int) -> list[int]:
    end = row.index(separator_id) if separator_id in row else len(row)
    return [token for token in row[:end] if token != padding_id]
