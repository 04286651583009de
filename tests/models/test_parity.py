"""Our likelihoods, gradients and answers are those of a plain Hugging Face model, for every model type, in float64.

What is expected comes from `model(...)` and `model.generate(...)`, one sequence at a time and without padding.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, StableLmConfig

from warmup.answering.answerer import Answerer
from warmup.config.architectures import ARCHITECTURES
from warmup.config.schema import EvaluationConfig
from warmup.methods.sampling import Warmups, even_weights
from warmup.methods.scoring import read_warmups, weigh_read
from warmup.methods.sft import sft_loss
from warmup.models.backbone import Backbone
from warmup.models.checkpoint_settings import Limits
from warmup.models.decoder_only import DecoderOnly
from warmup.models.encoding import Batch, source_batch
from warmup.models.model_types import FAMILIES
from warmup.models.modes import checkpoint_contexts


class StableLm(DecoderOnly):
    """A family as docs/architecture.md has one added, but for its row in the table."""

    config_class = StableLmConfig


KINDS = {**FAMILIES, "stablelm": StableLm}
PAD, END, START, SEPARATOR, WORDS = 1, 2, 3, 4, 40
FORBIDDEN = [0, PAD, END, START, 39]
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
BART = {"d_model": 16, "max_position_embeddings": 24} | {
    f"{part}_{what}": size
    for part in ("encoder", "decoder")
    for what, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))
}
CAUSAL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
SIZES = {"t5": T5, "mt5": T5, "bart": BART, "mbart": BART}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
WINDOW = {"sliding_window": 5, "use_sliding_window": True}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, tying) for kind in ARCHITECTURES for tying in (TIED, UNTIED)),
    ("t5", {**TIED, "feed_forward_proj": "gated-gelu"}),
    ("bart", {"scale_embedding": True}),
    *((kind, {"attn_implementation": "eager"}) for kind in ("bart", "mbart")),
    ("mbart", {"scale_embedding": True, **UNTIED}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
    ("llama", {"output_bias": True}),  # of the output layer: no config has it, a model may
    ("mistral", {**WINDOW, "num_key_value_heads": 1}),
    ("qwen2", {**WINDOW, "max_window_layers": 1}),
    ("qwen2", {**WINDOW, "max_window_layers": 0}),
    ("stablelm", {"use_qkv_bias": True, **UNTIED}),
]
SOURCES = [[11, 12, 13, 14, 15, 16, END], [17, END], [18, 19, 20, 21, END]]
TARGETS = [[22, 23, 24, END], [25, END], [26, 27, END]]
LABELS = torch.tensor([row + [-100] * (4 - len(row)) for row in TARGETS])
WARMUPS = [[[30, 31, 32], [33], [30, 31, 32]], [[], [34, 35], [36]], [[37], [38, 37, 36], []]]
LIMIT = 3  # a warmup as long has a forced separator, which counts nowhere
COEFFICIENTS = torch.tensor([[1.0, -0.7, 0.3], [0.4, 1.1, -0.2], [0.9, 0.5, 0.8]], dtype=torch.float64)


def described(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


@pytest.fixture(params=CASES, ids=described)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    kind, changes = request.param
    changes = dict(changes)
    biased = changes.pop("output_bias", False)
    ids = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": START, "decoder_start_token_id": START}
    config = AutoConfig.for_model(kind, vocab_size=WORDS, **{**SIZES.get(kind, CAUSAL), **ids, **changes})
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(config).double().eval()
    if biased:
        model.lm_head.bias = nn.Parameter(torch.zeros(WORDS, dtype=torch.float64))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in [*model.parameters(), *(b for name, b in model.named_buffers() if "logits_bias" in name)]:
            part.copy_(torch.randn(part.shape, generator=generator) * 0.4 + 0.1)
    made = Backbone(model, SimpleNamespace(pad_token_id=PAD, eos_token_id=END), KINDS[kind](), SEPARATOR)
    never = torch.zeros(WORDS, dtype=torch.bool)
    never[FORBIDDEN] = True
    made.__dict__["never_in_warmup"] = never
    return made


def batch_of(backbone: Backbone) -> tuple[Tensor, Tensor]:
    batch = source_batch(backbone, SOURCES)
    return batch["input_ids"], batch["attention_mask"]


def plain_logits(model: Any, source: list[int], written: list[int]) -> Tensor:
    """[L, V] logits that predict each token of `written`."""
    if model.config.is_encoder_decoder:
        begun = torch.tensor([[START, *written[:-1]]])
        return model(input_ids=torch.tensor([source]), decoder_input_ids=begun).logits[0]
    return model(input_ids=torch.tensor([source + written])).logits[0, len(source) - 1 : -1]


def log_probability(logits: Tensor, tokens: list[int], forbidden: list[int]) -> Tensor:
    kept = [token for token in range(WORDS) if token not in forbidden]
    total = logits[:, kept].logsumexp(-1)
    return sum((logits[place, token] - total[place] for place, token in enumerate(tokens)), torch.zeros(()).double())


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(part.abs().max().item() for part in expected.values())
    for name, part in expected.items():
        torch.testing.assert_close(
            found[name], part, rtol=0, atol=1e-6 * largest, msg=lambda text, n=name: f"{n} {text}"
        )


def test_fine_tuning_has_the_likelihood_and_gradients_of_the_model(backbone: Backbone) -> None:
    ours, _ = sft_loss(backbone, Batch(*batch_of(backbone), LABELS))
    found = gradients(backbone.model, ours)
    pairs = zip(SOURCES, TARGETS, strict=True)
    plain = -sum(log_probability(plain_logits(backbone.model, s, t), t, []) for s, t in pairs)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    assert_same_gradients(found, gradients(backbone.model, plain))


@pytest.mark.parametrize("way", ["read once", "one row", "checkpointed"])
def test_packed_warmups_have_the_likelihood_and_gradients_of_the_model(backbone: Backbone, way: str) -> None:
    """Warmups of unequal length in one row, empty, repeated and forced ones among them; sources are padded."""
    tokens = torch.tensor([[row + [PAD] * (LIMIT - len(row)) for row in rows] for rows in WARMUPS])
    lengths = torch.tensor([[len(row) for row in rows] for rows in WARMUPS])
    warmups = Warmups(tokens, lengths, lengths == LIMIT, even_weights(3, 3))
    if way == "checkpointed":
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts})
        for name in vars(backbone.model.config):
            if "drop" in name:
                setattr(backbone.model.config, name, 0.0)
        backbone.model.train()
        for part in backbone.model.modules():
            for name in ("p", "dropout", "activation_dropout"):
                if isinstance(getattr(part, name, None), float):
                    setattr(part, name, 0.0)
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone), shared=way == "read once")

    def loss(totals: Any, inputs: slice) -> Tensor:
        return (COEFFICIENTS[inputs] * (totals.target_logprob + 0.6 * totals.warmup_logprob)).sum(-1)

    read = read_warmups(backbone, encoded, warmups, LABELS)
    ours, totals = weigh_read(backbone, read, loss)
    found = gradients(backbone.model, ours)
    backbone.model.eval()
    plain = torch.zeros((), dtype=torch.float64)
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        for column, warmup in enumerate(WARMUPS[row]):
            logits = plain_logits(backbone.model, source, [*warmup, SEPARATOR, *target])
            likelihood = log_probability(logits[len(warmup) + 1 :], target, [])
            assert totals.target_logprob[row, column].item() == pytest.approx(likelihood.item(), rel=1e-6)
            drawn = warmup if len(warmup) == LIMIT else [*warmup, SEPARATOR]
            prior = log_probability(logits, drawn, FORBIDDEN)
            assert totals.warmup_logprob[row, column].item() == pytest.approx(prior.item(), rel=1e-6)
            plain = plain + COEFFICIENTS[row, column] * (likelihood + 0.6 * prior)
    assert_same_gradients(found, gradients(backbone.model, plain))


@torch.no_grad()
def test_cached_steps_have_the_logits_of_the_model(backbone: Backbone) -> None:
    written = [[30, 31, 32, 33], [34, 35, 36, 37], [38, 5, 6, 7]]
    rows = torch.tensor(written).repeat_interleave(2, 0)
    rows[1::2] += 1
    encoded = backbone.family.encode(backbone.model, *batch_of(backbone))
    logits, state = backbone.family.prefill(backbone.model, encoded, 2, 4)
    steps = [logits.repeat_interleave(2, dim=0)]
    steps += [backbone.family.step(backbone.model, state, rows[:, place]) for place in range(3)]
    for index, row in enumerate(rows.tolist()):
        expected = plain_logits(backbone.model, SOURCES[index // 2], row)
        torch.testing.assert_close(torch.stack([step[index] for step in steps]), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("backbone", [("mbart", UNTIED)], indirect=True)
def test_a_decoder_may_begin_with_two_tokens(backbone: Backbone) -> None:
    """As mBART-50's does: `</s>` and the language."""
    model, language = backbone.model.float(), 9
    backbone.family.written = language
    encoded = backbone.family.encode(model, *batch_of(backbone))
    tokens = torch.tensor([[[30, 31, 32], [33, 34, 35]]] * 3)
    hidden = backbone.family.hidden(model, encoded, tokens, torch.ones_like(tokens))
    first, _ = backbone.family.prefill(model, encoded, 1, 3)
    answers = Answerer(backbone, Limits(64, 4, 4), EvaluationConfig()).write_targets(encoded, [[30], [33, 34], []])
    for index, (source, prefix) in enumerate(zip(SOURCES, [[30], [33, 34], []], strict=True)):
        for column, row in enumerate(tokens[index].tolist()):
            begun = torch.tensor([[START, language, *row[:-1]]])
            plain = model(input_ids=torch.tensor([source]), decoder_input_ids=begun).logits[0, 1:]
            torch.testing.assert_close(backbone.family.logits(model, hidden[index, column]), plain, rtol=0, atol=1e-4)
            torch.testing.assert_close(first[index], plain[0], rtol=0, atol=1e-4)
        expected = _alone(model, source, [language, *prefix], max_new_tokens=4, eos_token_id=END, pad_token_id=PAD)
        assert answers[index][: len(expected) - 1] == expected[:-1]  # its own settings end with a forced </s>


@torch.no_grad()
def test_answers_are_those_of_generate_one_by_one(backbone: Backbone) -> None:
    """Sources and prefixes of unequal length, together and alone. In float64 T5's masks of padded rows overflow."""
    backbone.model.generation_config.forced_eos_token_id = None  # a default of BART's, and no setting of ours
    model = backbone.model.float()
    encoded = backbone.family.encode(model, *batch_of(backbone), shared=False)
    prefixes = [[30, SEPARATOR], [31, 32, 33, SEPARATOR], [SEPARATOR]]
    for beams, other in ((1, 3), (3, 1)):
        config = EvaluationConfig(num_beams=beams, warmup_num_beams=other)
        answerer = Answerer(backbone, Limits(64, 4, 4), config)
        warmups = answerer.write_warmups(encoded)
        targets = answerer.write_targets(encoded, prefixes)
        for source, prefix, warmup, target in zip(SOURCES, prefixes, warmups, targets, strict=True):
            common = {"max_new_tokens": 4, "pad_token_id": PAD, "do_sample": False}
            ending = {"eos_token_id": SEPARATOR, "suppress_tokens": FORBIDDEN}
            written = _alone(model, source, [], num_beams=other, **ending, **common)
            assert warmup == [token for token in written if token not in (SEPARATOR, PAD)]
            expected = _alone(model, source, prefix, num_beams=beams, eos_token_id=END, **common)
            assert target[: len(expected)] == expected and set(target[len(expected) :]) <= {PAD}


def _alone(model: Any, source: list[int], prefix: list[int], **settings: Any) -> list[int]:
    if model.config.is_encoder_decoder:
        ids, begun = torch.tensor([source]), torch.tensor([[START, *prefix]])
        return model.generate(input_ids=ids, decoder_input_ids=begun, **settings)[0, begun.shape[1] :].tolist()
    ids = torch.tensor([source + prefix])
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()
