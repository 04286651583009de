"""What is loaded is whole: types, tensors, finiteness and vocabularies that do not fit are refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, MBartTokenizerFast

from tests.conftest import TEXTS
from tests.saved_model import SETTINGS
from warmup.answering.answerer import Answerer
from warmup.config.architectures import ARCHITECTURES
from warmup.config.schema import EvaluationConfig, ModelConfig
from warmup.errors import UserError
from warmup.files import read_json, write_json
from warmup.models.checkpoint_settings import Limits
from warmup.models.checkpoints import read_checkpoint
from warmup.models.loading import build_fresh, check_lengths, load_pretrained, save
from warmup.models.model_types import FAMILIES
from warmup.models.tokenizers import SEPARATOR, train_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture(params=["t5", "bart", "llama"])
def folder(request: pytest.FixtureRequest, make_backbone: Any, tmp_path: Path) -> Path:
    save(make_backbone(request.param), tmp_path, SETTINGS)
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_pretrained(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def last_norm(tensors: dict[str, Tensor]) -> str:
    return sorted(name for name in tensors if "norm" in name)[-1]


def test_the_table_is_what_a_fresh_model_may_be() -> None:
    assert {name: family.has_dropout for name, family in FAMILIES.items()} == ARCHITECTURES


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gemma2", f"gemma2.* allowed: {', '.join(FAMILIES)}"),
        ("gpt2", "gpt2"),
        ("qwen3", "did you mean 'qwen2'"),
        ("umt5", "did you mean 'mt5'"),
        (None, "model type None"),
        ("never_heard_of", "allowed: t5"),
    ],
)
def test_a_type_outside_the_table_is_refused_before_anything_is_read(kind: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))  # no weights, no tokenizer
    assert re.search(reason, refusal(tmp_path))


def test_half_a_model_is_refused(folder: Path) -> None:
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"is_encoder_decoder": config["model_type"] == "llama"})
    assert "only one half of a" in refusal(folder)


def test_missing_tensors_are_refused(folder: Path) -> None:
    change(folder, lambda tensors: [tensors.pop(name) for name in sorted(tensors) if "norm" in name])
    assert re.search(r"do not fit its config.json: \d+ missing \(.*norm.*, .*norm.*, .*norm.*\)", refusal(folder))


def test_tensors_of_another_shape_are_refused(folder: Path) -> None:
    change(folder, lambda tensors: tensors.update({last_norm(tensors): torch.ones(3)}))
    assert re.search(r"1 of another shape \(\S*norm\S*\)", refusal(folder))


def test_tensors_that_no_part_of_the_model_wants_are_refused(folder: Path) -> None:
    """A layer more than config.json says, or the head of another task."""
    change(folder, lambda tensors: tensors.update({"classification_head.weight": torch.ones(2, 2)}))
    assert "1 not of this model (classification_head.weight)" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors[last_norm(tensors)][1] = value

    change(folder, spoil)
    assert re.search(r"not all finite: 1 NaN or infinite \(\S*norm\S*\)", refusal(folder))


def test_what_hugging_face_leaves_out_itself_is_no_fault(make_backbone: Any, tmp_path: Path) -> None:
    """As published files have it: a tied output layer that is absent or there twice, and buffers of old versions."""
    known = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    for architecture, extra in (("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"), ("t5", known)):
        save(make_backbone(architecture), tmp_path / architecture, SETTINGS)
        change(tmp_path / architecture, lambda tensors, name=extra: tensors.update({name: torch.ones(4)}))
        load_pretrained(str(tmp_path / architecture))
    embedding = load_file(tmp_path / "llama" / WEIGHTS)["model.embed_tokens.weight"]
    change(tmp_path / "llama", lambda tensors: tensors.update({"lm_head.weight": embedding.clone()}))
    assert torch.equal(load_pretrained(str(tmp_path / "llama")).model.lm_head.weight, embedding)


@pytest.mark.parametrize("tied", [True, False])
def test_a_separator_added_to_bart_leaves_the_other_logits_as_they_were(tied: bool, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300, FAMILIES["bart"].template)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "scale_embedding": True}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3, "decoder_start_token_id": 1}
    config = BartConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, **sizes, **heads, **ids)
    model = BartForConditionalGeneration(config).eval()
    model.final_logits_bias.normal_()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embedding = model.get_input_embeddings().weight  # one for both sides; transformers loads an untied one as noise
    for side in ("encoder", "decoder"):
        assert torch.equal(getattr(read_checkpoint(str(tmp_path)).model.model, side).embed_tokens.weight, embedding)
    backbone = load_pretrained(str(tmp_path))
    assert backbone.separator_id == len(tokenizer) and backbone.model.final_logits_bias.shape[1] == len(tokenizer) + 1
    ids = torch.tensor([[3, 265, 270, 1]])
    with torch.no_grad():
        before = model(input_ids=ids, decoder_input_ids=ids).logits
        after = backbone.model(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(after[..., : len(tokenizer)], before)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    larger = train_tokenizer([" ".join(f"word{n} thing{n}" for n in range(400))], 600, FAMILIES["t5"].template)
    assert len(larger) > 400
    larger.save_pretrained(folder)
    assert re.search("token ids up to .* embeddings for .* tokens: they do not belong together", refusal(folder))


def test_added_tokens_without_an_embedding_get_one_and_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<one>", special=True), AddedToken("<two>", special=True)])
    tokenizer.save_pretrained(folder)
    backbone = load_pretrained(str(folder))
    assert backbone.model.get_output_embeddings().weight.shape[0] == len(backbone.tokenizer)
    assert "2 added tokens of the tokenizer" in caplog.text


def test_a_setting_that_changes_the_likelihood_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = FAMILIES[read_json(folder / "config.json")["model_type"]]
    plain = kind.plain_logits
    monkeypatch.setattr(kind, "plain_logits", lambda *given: 30 * torch.tanh(plain(*given) / 3))
    assert "computes other logits than this program knows" in refusal(folder)


def test_limits_beyond_the_positions_of_a_model_are_refused(make_backbone: Any) -> None:
    backbone = make_backbone("bart")  # 512 positions
    check_lengths(backbone, Limits(512, 100, 411))
    check_lengths(make_backbone("t5"), Limits(10_000, 1000, 10_000))
    with pytest.raises(UserError, match="task.max_source_tokens=513 is 513 tokens, more than the 512 positions"):
        check_lengths(backbone, Limits(513, None, 10))
    with pytest.raises(UserError, match="task.max_target_tokens=412 after method.max_warmup_tokens=100 .* is 513"):
        check_lengths(backbone, Limits(10, 100, 412))
    with pytest.raises(UserError, match="task.max_source_tokens=400 with task.max_target_tokens=200 .*recognition"):
        check_lengths(backbone, Limits(400, 8, 200), shown=True)


@pytest.fixture
def mbart(tmp_path: Path) -> Path:
    """A tiny mBART with three languages."""
    tokenizer = train_tokenizer(TEXTS, 300, FAMILIES["mbart"].template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["en_XX", "de_DE", "ro_RO"], "bos_token": "<s>"})
    tokenizer.add_special_tokens({"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"})
    tokenizer.save_pretrained(tmp_path / "parts")
    languages = MBartTokenizerFast(
        tokenizer_file=str(tmp_path / "parts" / "tokenizer.json"), src_lang="en_XX", tgt_lang="ro_RO"
    )
    config = ModelConfig(name="tiny", architecture="mbart", width=16, heads=2, layers=1, feed_forward=16)
    config.vocabulary_size = 300
    torch.manual_seed(0)
    backbone = build_fresh(config, TEXTS, 64)
    backbone.model.resize_token_embeddings(len(languages))
    backbone.tokenizer = languages
    backbone.model.config.eos_token_id = languages.eos_token_id
    save(backbone, tmp_path, SETTINGS)
    return tmp_path


def test_mbart_reads_and_writes_the_languages_of_the_task(mbart: Path, tmp_path: Path) -> None:
    backbone = load_pretrained(str(mbart), None, ("deu_Latn", "English"))
    known, end = backbone.tokenizer.convert_tokens_to_ids, backbone.tokenizer.eos_token_id
    text, closing = backbone.family.source_ids(backbone.tokenizer, "a small red ball", backbone.separator_id)
    assert closing == [end, known("de_DE")] and end not in text
    assert backbone.family.start_ids(backbone.model) == [known("en_XX")]
    save(backbone, tmp_path / "trained", SETTINGS)
    again = load_pretrained(str(tmp_path / "trained"))  # it remembers
    assert again.family.source_ids(again.tokenizer, "a", again.separator_id)[1] == closing
    assert again.family.start_ids(again.model) == [known("en_XX")]
    answers = Answerer(again, Limits(64, 2, 3), EvaluationConfig()).decode([[265, 270, *closing]], "test")
    assert len(answers) == 1 and SEPARATOR not in answers[0].prediction
    as_saved = load_pretrained(str(mbart))
    assert as_saved.family.start_ids(as_saved.model) == [known("ro_RO")]
    with pytest.raises(UserError, match="task.target_language is 'qtz'.*it has ar_AR, cs_CZ, de_DE"):
        load_pretrained(str(mbart), None, ("de", "qtz"))
