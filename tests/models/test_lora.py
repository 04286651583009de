"""Adapters against plain matrices W + s B A; saved, merged and read again; what is trained and what is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from tests.config.composing import refusal
from tests.methods.batch import LABELS, LIMIT, SOURCES, batch_of, noise_of
from tests.methods.oracle import loss as oracle_loss
from tests.methods.oracle import score, sources_of
from tests.models.adapted import adapted, changed, pretrained
from tests.saved_model import SETTINGS
from warmup.config.schema import LoraConfig, WarmupMethod
from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.methods.sampling import Warmups, even_weights
from warmup.methods.scoring import read_warmups, score_read, shared_dropout
from warmup.methods.sft import sft_loss
from warmup.methods.warmup import warmup_step
from warmup.models.backbone import Backbone
from warmup.models.encoding import Batch
from warmup.models.loading import load_pretrained, load_weights, save
from warmup.models.modes import checkpoint_contexts

KINDS = ["t5", "mt5", "bart", "mbart", "llama", "qwen2"]
SCALE = 5.0 / 3  # alpha / rank of `adapted`


class Summed:
    """The base model with matrices W + s B A and new rows in their places: plain PyTorch, nothing of PEFT computes."""

    def __init__(self, plain: Any, trained: Any) -> None:
        self.plain, self.trained, self.config = plain, trained, plain.config

    def weights(self) -> dict[str, Tensor]:
        found = {}
        for name, part in self.trained.named_modules():
            if hasattr(part, "lora_A"):
                low, high = part.lora_A["default"].weight, part.lora_B["default"].weight
                found[f"{name}.weight"] = self.plain.get_parameter(f"{name}.weight").detach() + SCALE * high @ low
        ends = [self.plain.get_input_embeddings(), self.plain.get_output_embeddings()]
        pairs = zip(ends, [self.trained.get_input_embeddings(), self.trained.get_output_embeddings()], strict=True)
        for table, rows in pairs:
            name = next(key for key, value in self.plain.named_parameters() if value is table.weight)
            layer = rows.token_adapter
            where = torch.tensor(layer.token_indices["default"])
            found[name] = table.weight.detach().index_copy(0, where, layer.trainable_tokens_delta["default"])
        return found

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self.plain, self.weights(), (), inputs)


def pair(folder: Path, architecture: str) -> tuple[Backbone, Backbone]:
    """A backbone with adapters that matter, in float64 and with few words for warmups, and what it must compute."""
    backbone = changed(adapted(folder, architecture))
    backbone.model.double()
    forbidden = torch.ones_like(backbone.never_in_warmup)
    forbidden[[*range(20, 26), backbone.separator_id]] = False
    backbone.__dict__["never_in_warmup"] = forbidden
    plain = load_pretrained(str(folder)).model.double()
    parts = {"tokenizer": backbone.tokenizer, "separator_id": backbone.separator_id, "never_in_warmup": forbidden}
    parts |= {"before_target": (), "sharpening": backbone.sharpening}
    return backbone, SimpleNamespace(model=Summed(plain, backbone.model), **parts)  # type: ignore[return-value]


def gradients(backbone: Backbone, loss: Tensor) -> dict[str, Tensor | None]:
    backbone.model.zero_grad()
    loss.backward()
    return {name: part.grad if part.grad is None else part.grad.clone() for name, part in named(backbone).items()}


def named(backbone: Backbone) -> dict[str, Tensor]:
    return dict(backbone.model.named_parameters())


def assert_same_gradients(found: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    largest = max(part.abs().max().item() for part in expected.values() if part is not None)
    new = ("lora_A", "lora_B", "trainable_tokens_delta")
    for name, part in found.items():
        assert (part is not None) == any(word in name for word in new), name
        if part is not None:
            torch.testing.assert_close(part, expected[name], rtol=0, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ["t5", "bart", "llama"])
@pytest.mark.parametrize("changes", [{}, {"sampler": "without_replacement", "objective": "elbo"}], ids=str)
def test_the_packed_step_equals_plain_matrices(
    architecture: str, changes: dict, checkpointing: bool, tmp_path: Path
) -> None:
    backbone, summed = pair(tmp_path / "base", architecture)
    if checkpointing:
        backbone.model.train()
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts})
    method = WarmupMethod(num_samples=4, max_warmup_tokens=LIMIT, entropy_coef=0.1, **changes)
    ids, mask = batch_of(backbone)
    step = warmup_step(backbone, method, backbone.family.encode(backbone.model, ids, mask), LABELS, noise_of(backbone))
    found = gradients(backbone, step.loss)
    scores = score(summed, sources_of(ids, mask), step.warmups, LABELS)
    torch.testing.assert_close(step.target_logprob, scores.target_logprob.detach(), rtol=0, atol=1e-5)
    assert all(part is None or part.abs().max() > 0 for part in found.values())
    loss = oracle_loss(method, scores, step.warmups.log_prior_weight)
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_same_gradients(found, gradients(backbone, loss))


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_fine_tuning_equals_plain_matrices(architecture: str, tmp_path: Path) -> None:
    backbone, summed = pair(tmp_path / "base", architecture)
    ids, mask = batch_of(backbone)
    ours, _ = sft_loss(backbone, Batch(ids, mask, LABELS))
    found = gradients(backbone, ours)
    plain = torch.zeros((), dtype=torch.float64)
    for source, label in zip(sources_of(ids, mask), LABELS, strict=True):
        target = label[label >= 0]
        logits = logits_of(summed.model, source, target.tolist())
        plain = plain - logits.log_softmax(-1)[torch.arange(len(target)), target].sum()
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    assert_same_gradients(found, gradients(backbone, plain))


def logits_of(model: Any, source: list[int], target: list[int]) -> Tensor:
    """[L, V] what predicts each token of `target`."""
    if model.config.is_encoder_decoder:
        begun = torch.tensor([[model.config.decoder_start_token_id, *target[:-1]]])
        return model(input_ids=torch.tensor([source]), decoder_input_ids=begun).logits[0]
    return model(input_ids=torch.tensor([source + target])).logits[0, len(source) - 1 : -1]


def some_logits(backbone: Backbone, model: Any = None) -> Tensor:
    """Logits [L, V] that depend on the separator as a source's end and as what was written."""
    with torch.no_grad():
        return logits_of(model or backbone.model, [*SOURCES[0], backbone.separator_id], [7, backbone.separator_id, 9])


@pytest.mark.parametrize("architecture", KINDS)
def test_adapters_change_nothing_at_first_and_are_the_same_wherever_they_are_read(
    architecture: str, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    before = some_logits(load_pretrained(str(pretrained(base, architecture))))
    backbone = adapted(base, architecture)
    assert torch.equal(some_logits(backbone), before)
    trained = some_logits(changed(backbone))
    assert (trained - before).abs().max() > 0.1
    with torch.enable_grad():  # where a copy of the embeddings has the new rows, not these themselves
        again = logits_of(backbone.model, [*SOURCES[0], backbone.separator_id], [7, backbone.separator_id, 9])
    assert torch.equal(again, trained)
    save(backbone, tmp_path / "saved", SETTINGS)
    assert not (tmp_path / "saved" / "config.json").exists()
    assert torch.equal(some_logits(load_pretrained(str(tmp_path / "saved"))), trained)
    plain = backbone.family.auto.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path / "saved")).eval()
    assert torch.equal(some_logits(backbone, theirs), trained)


@pytest.mark.parametrize("architecture", KINDS)
def test_a_merged_model_is_a_plain_checkpoint_with_the_same_logits(architecture: str, tmp_path: Path) -> None:
    backbone = changed(adapted(tmp_path / "base", architecture))
    backbone.model.double()
    trained = some_logits(backbone)
    before = adapted(tmp_path / "base", architecture)
    backbone.merge_adapters()
    torch.testing.assert_close(some_logits(backbone), trained, rtol=0, atol=1e-9)
    names = named(load_pretrained(str(tmp_path / "base")))
    assert named(backbone).keys() == names.keys() and all(part.requires_grad for part in named(backbone).values())
    save(backbone, tmp_path / "merged", SETTINGS)
    plain = backbone.family.auto.from_pretrained(tmp_path / "merged", dtype=torch.float64)
    torch.testing.assert_close(some_logits(backbone, plain.eval()), some_logits(backbone), rtol=0, atol=1e-4)
    load_weights(before, tmp_path / "merged")  # as a finished run does that is given again
    assert before.adapters is None
    torch.testing.assert_close(some_logits(before).double(), trained, rtol=0, atol=1e-3)


def test_adapters_may_stand_on_adapters(tmp_path: Path) -> None:
    first = changed(adapted(tmp_path / "base", "llama"))
    save(first, tmp_path / "first", SETTINGS)
    second = changed(adapted(tmp_path / "first", "llama"))
    save(second, tmp_path / "second", SETTINGS)
    assert (some_logits(second) - some_logits(first)).abs().max() > 0.1
    assert torch.equal(some_logits(load_pretrained(str(tmp_path / "second"))), some_logits(second))


def test_a_token_without_an_embedding_gets_one_that_is_trained_and_kept(tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base", "llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    backbone = load_pretrained(str(base))
    model.resize_token_embeddings(backbone.separator_id)  # the separator is the last token
    model.save_pretrained(base)
    backbone = changed(adapted(base, "llama"))
    assert backbone.new_rows == [backbone.separator_id]
    save(backbone, tmp_path / "saved", SETTINGS)
    torch.manual_seed(7)  # the base model's new rows are others now
    again = load_pretrained(str(tmp_path / "saved"))
    assert torch.equal(some_logits(again), some_logits(backbone))


@pytest.mark.parametrize("architecture", ["t5", "bart", "llama"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_treats_the_warmups_of_an_input_alike(architecture: str, checkpointing: bool, tmp_path: Path) -> None:
    config = LoraConfig(rank=3, alpha=5.0, dropout=0.5)
    backbone = changed(adapted(tmp_path / "base", architecture, config))
    backbone.model.double().train()
    if checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts})
    ids, mask = batch_of(backbone)
    # the two are read apart, since equal warmups are read once
    tokens, lengths = torch.tensor([[[20, 21, 0]]] * 3), torch.full((3, 1), 2)
    one = Warmups(tokens, lengths, lengths == LIMIT, even_weights(3, 1))
    encoded = backbone.family.encode(backbone.model, ids, mask)
    dropout = shared_dropout(backbone, LIMIT, LABELS)
    first, second = (
        score_read(backbone, read_warmups(backbone, encoded, one, LABELS, dropout)).target_logprob for _ in range(2)
    )
    assert torch.equal(first, second)
    other = backbone.family.encode(backbone.model, ids, mask)
    losses = [sft_loss(backbone, Batch(ids, mask, LABELS))[0].item() for _ in range(2)]
    assert losses[0] != losses[1]
    if not checkpointing:  # where the source is read once, with noise of its own
        assert not torch.equal(encoded.states, other.states)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("rank=-1", "model.lora.rank is -1; allowed: 0 to 4096"),
        ("rank=8.5", "model.lora.rank is 8.5; allowed: a whole number or null, 0 to 4096"),
        ("rank=8 dropout=1", "model.lora.dropout is 1.0; allowed: 0.0 to 0.9"),
        ("rank=8 alpha=0", "model.lora.alpha is 0.0; allowed: 1e-06 to 1000000.0"),
        ("rank=8 target_modules=[]", "model.lora.target_modules is []"),
        ("rank=8 target_modules=[q,q]", "model.lora.target_modules is ['q', 'q']"),
        ("rnak=8", "did you mean 'model.lora.rank'?"),
        ("dropout=0.1", "model.lora.dropout is 0.1 and there is no LoRA: give model.lora.rank=8"),
        ("rank=0 merge=false", "model.lora.merge is False and there is no LoRA"),
    ],
)
def test_wrong_values_get_a_line(words: str, line: str) -> None:
    assert line in refusal("model=t5_small", *(f"model.lora.{word}" for word in words.split()))


def test_what_does_not_go_with_adapters_is_refused(tmp_path: Path) -> None:
    assert "model.lora.rank is 8; allowed: null, or with model.pretrained" in refusal("model.lora.rank=8")
    words = ["model=t5_small", "model.lora.rank=8", "trainer.evaluate_every=10", "trainer.average_checkpoints=2"]
    assert "trainer.average_checkpoints is 2; allowed: 1 with model.lora.rank" in refusal(*words)
    for name, meant in (("q_prj", "q_proj"), ("lm_head", None)):
        with pytest.raises(UserError, match=f"model.lora.target_modules is '{name}'; allowed: q_proj, k_proj") as error:
            adapted(tmp_path / "base", "llama", LoraConfig(rank=2, target_modules=[name]))
        assert meant is None or f"did you mean '{meant}'" in str(error.value)


@pytest.mark.parametrize("architecture", ["t5", "llama"])
def test_only_the_named_layers_are_adapted(architecture: str, tmp_path: Path) -> None:
    name = {"t5": "wo", "llama": "v_proj"}[architecture]
    backbone = adapted(tmp_path / "base", architecture, LoraConfig(rank=2, target_modules=[name]))
    found = {key.split(".lora_")[0].rpartition(".")[2] for key in named(backbone) if "lora_" in key}
    assert found == {name}


@pytest.mark.parametrize("fault", ["no base", "kind", "named nothing", "other weights", "not finite", "no weights"])
def test_faulty_adapters_get_a_line(fault: str, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    backbone = changed(adapted(tmp_path / "base", "llama"))
    if fault == "not finite":
        with torch.no_grad():
            next(part for name, part in named(backbone).items() if "lora_A" in name).fill_(torch.nan)
    save(backbone, folder, SETTINGS)
    content = read_json(folder / "adapter_config.json")
    changes: dict[str, dict[str, Any]] = {
        "no base": {"base_model_name_or_path": str(tmp_path / "gone")},
        "kind": {"peft_type": "IA3"},
        "named nothing": {"base_model_name_or_path": None},
        "other weights": {"r": 2},
    }
    write_json(folder / "adapter_config.json", content | changes.get(fault, {}))
    if fault == "no weights":
        (folder / "adapter_model.safetensors").unlink()
    lines = {
        "no base": f"the base model of the adapters in {folder} cannot be loaded: model.pretrained is",
        "kind": "adapter_config.json is not of LoRA adapters",
        "named nothing": "names no base model",
        "other weights": "not those of its adapter_config.json and base model: base_model.model.model.layers.0",
        "not finite": "are not finite: base_model.model.model.layers.0",
        "no weights": f"{folder} does not hold adapters of its base model: FileNotFoundError",
    }
    with pytest.raises(UserError) as error:
        load_pretrained(str(folder))
    assert lines[fault] in str(error.value)
