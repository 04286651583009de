"""Tiny models of the neural metrics, saved as the libraries save theirs, and a cache of their own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer, XLMRobertaConfig, XLMRobertaTokenizerFast

SOURCES = ["ein Hund läuft", "zwei Männer am See", "die Frau liest"]
REFERENCES = ["a dog runs", "two men by the lake", "the woman reads"]
PREDICTIONS = ["a dog walks", "", "woman reads a book in the long grass"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
