"""COMET and BERTScore on tiny models built here: the real libraries, the real file layouts, no network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer, XLMRobertaConfig, XLMRobertaTokenizerFast

from warmup.errors import UserError
from warmup.evaluation import neural_metrics
from warmup.evaluation.metrics import compute_metrics

SOURCES = ["ein Hund läuft", "zwei Männer am See", "die Frau liest"]
REFERENCES = ["a dog runs", "two men by the lake", "the woman reads"]
PREDICTIONS = ["a dog walks", "", "woman reads a book in the long grass"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config and tokenizer of an XLM-R, as COMET reads them: no weights."""
    folder = tmp_path_factory.mktemp("xlmr")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*SOURCES, *REFERENCES, *PREDICTIONS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = XLMRobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=66, **SIZES)
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def comet_folder(xlm_roberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COMET RegressionMetric with random weights, laid out as on the hub: hparams.yaml, checkpoints/model.ckpt."""
    pytest.importorskip("comet")
    import yaml
    from comet.models import RegressionMetric

    folder = tmp_path_factory.mktemp("comet")
    settings = {"pretrained_model": str(xlm_roberta), "hidden_sizes": [8], "nr_frozen_epochs": 0.3}
    torch.manual_seed(0)
    model = RegressionMetric(**settings, load_pretrained_weights=False, local_files_only=True)
    (folder / "checkpoints").mkdir()
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.0.0",
    }
    torch.save(checkpoint, folder / "checkpoints" / "model.ckpt")
    (folder / "hparams.yaml").write_text(yaml.safe_dump({"class_identifier": "regression_metric", **settings}))
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with random weights, in a folder with "t5" in its name: bert_score's own loader takes that for a T5."""
    folder = tmp_path_factory.mktemp("not_a_t5")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*REFERENCES, *PREDICTIONS], trainer)
    tokenizer.model.save(str(folder))
    RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=42, **SIZES)
    RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("path", ["", "checkpoints/model.ckpt"])
def test_comet_equals_the_library_on_a_local_checkpoint(
    comet_folder: Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMET_MODEL", str(comet_folder / path))
    evaluation = compute_metrics(["comet"], PREDICTIONS, REFERENCES, SOURCES, "en")
    model = comet.load_from_checkpoint(str(comet_folder / "checkpoints/model.ckpt"), local_files_only=True)
    triples = zip(SOURCES, PREDICTIONS, REFERENCES, strict=True)
    samples = [{"src": source, "mt": prediction, "ref": reference} for source, prediction, reference in triples]
    scores = model.predict(samples, gpus=0, progress_bar=False).scores
    assert evaluation.skipped == {}
    assert len({round(score, 6) for score in scores}) == 3
    assert evaluation.scores["comet"].value == pytest.approx(100 * sum(scores) / 3, rel=1e-4)
    assert str(comet_folder) in evaluation.scores["comet"].signature
    assert "unbabel-comet:2" in evaluation.scores["comet"].signature
    assert list(tmp_path.iterdir()) == []  # nothing is logged beside the run


def test_bertscore_equals_the_library(roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bert_score

    monkeypatch.setenv("BERTSCORE_MODEL", str(roberta))
    evaluation = compute_metrics(["bertscore"], PREDICTIONS, REFERENCES, SOURCES, "en")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roberta").symlink_to(roberta)
    expected = bert_score.score(PREDICTIONS, REFERENCES, model_type="roberta", num_layers=2, device="cpu")[2]
    assert evaluation.skipped == {}
    assert 0 < evaluation.scores["bertscore"].value < 100
    assert evaluation.scores["bertscore"].value == pytest.approx(100 * expected.mean().item(), abs=1e-4)
    assert "_L2_no-idf_version=0.3" in evaluation.scores["bertscore"].signature


def test_bertscore_of_equal_empty_and_endless_texts(roberta: Path) -> None:
    def f1(prediction: str) -> float:
        scores = neural_metrics.score_bertscore([prediction], ["a dog runs"], "en", "cpu", str(roberta))
        assert isinstance(scores, dict), scores
        return scores["bertscore"].value

    assert f1("a dog runs") == pytest.approx(100, abs=1e-3)
    assert f1("") == 0
    assert math.isfinite(f1("a dog runs by the lake " * 50))  # far beyond the 40 positions of this encoder


@pytest.mark.parametrize("metric", ["comet", "bertscore"])
def test_without_a_network_the_metric_is_skipped_with_a_reason(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv(f"{metric.upper()}_MODEL", "nobody/no-such-metric-model")
    evaluation = compute_metrics([metric, "bleu"], PREDICTIONS, REFERENCES, SOURCES, "en")
    assert metric not in evaluation.scores
    assert "no network" in evaluation.skipped[metric]
    assert f"{metric.upper()}_MODEL" in evaluation.skipped[metric]
    assert "\n" not in evaluation.skipped[metric]
    assert "bleu" in evaluation.scores


@pytest.mark.parametrize("metric", ["comet", "bertscore"])
def test_a_local_path_without_a_model_is_named(metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{metric.upper()}_MODEL", str(tmp_path))
    evaluation = compute_metrics([metric], PREDICTIONS, REFERENCES, SOURCES, "en")
    assert evaluation.scores == {}
    assert str(tmp_path) in evaluation.skipped[metric]
    assert "\n" not in evaluation.skipped[metric]


def test_a_missing_library_and_a_gated_model_have_their_own_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(name: str) -> None:
        from requests import Response

        raise GatedRepoError("403 Client Error\nlong story", response=Response())

    monkeypatch.setattr(neural_metrics, "_load_comet", gated)
    reason = neural_metrics.score_comet(["a"], ["a"], ["b"], "cpu", "org/gated")
    assert isinstance(reason, str)
    assert "gated" in reason and "hf auth login" in reason and "org/gated" in reason

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'comet'")

    monkeypatch.setattr(neural_metrics, "_load_comet", missing)
    reason = neural_metrics.score_comet(["a"], ["a"], ["b"], "cpu")
    assert isinstance(reason, str)
    assert "not there" in reason and "pip install unbabel-comet" in reason


def test_bertscore_reads_the_model_that_suits_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, device: str) -> None:
        asked.append(name)
        raise UserError("stop here")

    monkeypatch.setattr(neural_metrics, "_load_bertscore", load)
    for language in ["en", None, "zh-CN", "de"]:
        neural_metrics.score_bertscore(["a"], ["a"], language, "cpu")
    assert asked == ["roberta-large", "roberta-large", "bert-base-chinese", "bert-base-multilingual-cased"]


def test_comet_scores_do_not_depend_on_batching(comet_folder: Path) -> None:
    def mean(copies: int) -> float:
        texts = (PREDICTIONS * copies, REFERENCES * copies, SOURCES * copies)
        scores = neural_metrics.score_comet(*texts, "cpu", str(comet_folder))
        assert isinstance(scores, dict), scores
        return scores["comet"].value

    assert mean(1) == pytest.approx(mean(12), rel=1e-4)  # 36 samples: three batches, the last one short
