"""COMET and BERTScore on tiny models built here: the real libraries, the real file layouts, no network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from tests.metrics.conftest import PREDICTIONS, REFERENCES, SIZES, SOURCES
from tests.metrics.scoring import scored as scored_texts
from warmup.config.schema import EvaluationConfig
from warmup.metrics import neural
from warmup.metrics.evaluation import Evaluation
from warmup.metrics.metric import Score
from warmup.metrics.score_cache import cache_folder, cached_scores


def scored(metric: str, **settings: object) -> Evaluation:
    """The three examples under one metric, with keys of `evaluation`."""
    return scored_texts([metric], PREDICTIONS, REFERENCES, SOURCES, "en", EvaluationConfig(**settings))


@pytest.mark.parametrize("path", ["", "checkpoints/model.ckpt"])
def test_comet_equals_the_library_on_a_local_checkpoint(
    comet_folder: Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comet

    monkeypatch.chdir(tmp_path)
    evaluation = scored("comet", comet_model=str(comet_folder / path), batch_size=2)
    model = comet.load_from_checkpoint(str(comet_folder / "checkpoints/model.ckpt"), local_files_only=True)
    triples = zip(SOURCES, PREDICTIONS, REFERENCES, strict=True)
    samples = [{"src": source, "mt": prediction, "ref": reference} for source, prediction, reference in triples]
    scores = model.predict(samples, gpus=0, progress_bar=False).scores
    assert evaluation.skipped == {}
    assert len({round(score, 6) for score in scores}) == 3
    score = evaluation.scores["comet"]
    assert score.value == pytest.approx(100 * sum(scores) / 3, rel=1e-4)
    assert evaluation.segment_scores()["comet"] == pytest.approx([100 * one for one in scores], rel=1e-4)
    assert f"model:{comet_folder / path}@sha256-" in score.signature
    assert "unbabel-comet:2" in score.signature and "tokenizer and encoder:" in score.signature
    assert list(tmp_path.iterdir()) == []  # nothing is logged beside the run


def test_comet_reads_a_folder_of_links_by_a_relative_path(
    comet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As snapshots in the hub's cache are: the checkpoint is a link to a blob without settings above it."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "blob").write_bytes((comet_folder / "checkpoints" / "model.ckpt").read_bytes())
    (tmp_path / "checkpoints" / "model.ckpt").symlink_to(tmp_path / "blob")
    (tmp_path / "hparams.yaml").write_text((comet_folder / "hparams.yaml").read_text())
    monkeypatch.chdir(tmp_path / "checkpoints")
    linked = scored("comet", comet_model="model.ckpt")
    assert linked.skipped == {}
    assert linked.segment_scores() == scored("comet", comet_model=str(comet_folder)).segment_scores()


def test_comet_reads_a_model_of_another_kind(xlm_roberta: Path, tmp_path: Path) -> None:
    """A unified metric (as COMETKiwi and XCOMET are), which averages over three input sequences."""
    import comet
    import yaml
    from comet.models import UnifiedMetric

    settings = {"pretrained_model": str(xlm_roberta), "hidden_sizes": [8], "sent_layer": "mix", "word_layer": 2}
    settings |= {"input_segments": ["mt", "src", "ref"], "word_level_training": False}
    torch.manual_seed(0)
    model = UnifiedMetric(**settings, load_pretrained_weights=False, local_files_only=True).eval()
    (tmp_path / "checkpoints").mkdir()
    state = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save({**state, "pytorch-lightning_version": "2.0.0"}, tmp_path / "checkpoints" / "model.ckpt")
    (tmp_path / "hparams.yaml").write_text(yaml.safe_dump({"class_identifier": "unified_metric", **settings}))
    evaluation = scored("comet", comet_model=str(tmp_path))
    triples = zip(SOURCES, PREDICTIONS, REFERENCES, strict=True)
    samples = [{"src": source, "mt": prediction, "ref": reference} for source, prediction, reference in triples]
    loaded = comet.load_from_checkpoint(str(tmp_path / "checkpoints/model.ckpt"), local_files_only=True)
    expected = loaded.predict(samples, gpus=0, progress_bar=False).scores
    assert evaluation.skipped == {}
    assert evaluation.segment_scores()["comet"] == pytest.approx([100 * score for score in expected], rel=1e-4)


@pytest.mark.parametrize("layer", [None, 1])
def test_bertscore_equals_the_library(
    roberta: Path, layer: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bert_score

    evaluation = scored("bertscore", bertscore_model=str(roberta), bertscore_layer=layer, batch_size=2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roberta").symlink_to(roberta)
    expected = bert_score.score(PREDICTIONS, REFERENCES, model_type="roberta", num_layers=layer or 2, device="cpu")[2]
    assert evaluation.skipped == {}
    assert 0 < evaluation.scores["bertscore"].value < 100
    assert evaluation.segment_scores()["bertscore"] == pytest.approx((100 * expected).tolist(), abs=1e-4)
    signature = evaluation.scores["bertscore"].signature
    assert f"_L{layer or 2}_no-idf_version=0.3" in signature
    assert signature.endswith("|f1:mean|rescaled:no") and f"{roberta}@sha256-" in signature


def test_special_tokens_of_the_texts_count_as_text_in_bertscore(roberta: Path) -> None:
    """As special tokens they would weigh nothing: one more or less would change nothing."""
    references, predictions = ["a </s></s>", "</s>"], ["a </s>", "</s>"]
    settings = EvaluationConfig(bertscore_model=str(roberta))
    evaluation = scored_texts(["bertscore"], predictions, references, references, "en", settings)
    different, equal = evaluation.segment_scores()["bertscore"]
    assert different < 99 and equal == pytest.approx(100, abs=1e-3)


def test_rescaling_uses_the_libraries_own_baseline(roberta: Path, tmp_path: Path) -> None:
    import bert_score

    (tmp_path / "roberta-large").symlink_to(roberta)  # by this name bert_score knows a baseline, and a best layer of 17
    name = str(tmp_path / "roberta-large")
    evaluation = scored("bertscore", bertscore_model=name, bertscore_rescale=True)
    tables = Path(bert_score.__file__).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    expected = bert_score.score(
        PREDICTIONS,
        REFERENCES,
        model_type=name,
        num_layers=2,
        device="cpu",
        lang="en",
        rescale_with_baseline=True,
        baseline_path=str(tables),
    )[2]
    assert evaluation.segment_scores()["bertscore"] == pytest.approx((100 * expected).tolist(), abs=1e-3)
    assert "_L2_" in evaluation.scores["bertscore"].signature
    assert "rescaled:en baseline 0." in evaluation.scores["bertscore"].signature
    assert evaluation.segment_scores()["bertscore"][1] < 0  # the empty prediction, as in the library


def test_bertscore_reads_a_bert_and_a_t5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other architectures keep their layers elsewhere; the library on the same folders is the measure."""
    import bert_score
    from transformers import BertConfig, BertModel, BertTokenizer, T5Config, T5ForConditionalGeneration

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in REFERENCES for word in text.split()})]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer("vocab.txt")
    torch.manual_seed(0)
    bert = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=40, **SIZES))
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 2}
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=len(words), decoder_start_token_id=0, **sizes))
    for name, model in (("a_bert", bert), ("a_t5", t5)):
        model.save_pretrained(name)
        tokenizer.save_pretrained(name)
        evaluation = scored("bertscore", bertscore_model=str(tmp_path / name), bertscore_layer=1)
        expected = bert_score.score(PREDICTIONS, REFERENCES, model_type=name, num_layers=1, device="cpu")[2]
        assert evaluation.skipped == {}
        assert evaluation.segment_scores()["bertscore"] == pytest.approx((100 * expected).tolist(), abs=1e-3)


def test_bertscore_of_equal_empty_and_endless_texts(roberta: Path) -> None:
    def f1(prediction: str) -> float:
        config = EvaluationConfig(bertscore_model=str(roberta))
        return scored_texts(["bertscore"], [prediction], ["a dog runs"], None, "en", config).scores["bertscore"].value

    assert f1("a dog runs") == pytest.approx(100, abs=1e-3)
    assert f1("") == f1(" \n") == 0
    assert math.isfinite(f1("a dog runs by the lake " * 50))  # far beyond the 40 positions of this encoder


@pytest.mark.parametrize("metric", ["comet", "bertscore"])
def test_without_a_network_the_metric_is_skipped_with_a_reason(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = EvaluationConfig(**{f"{metric}_model": "nobody/no-such-metric-model"})
    evaluation = scored_texts([metric, "bleu"], PREDICTIONS, REFERENCES, SOURCES, "en", config)
    assert metric not in evaluation.scores
    assert "no network" in evaluation.skipped[metric]
    assert f"evaluation.{metric}_model=PATH" in evaluation.skipped[metric]
    assert "\n" not in evaluation.skipped[metric]
    assert "bleu" in evaluation.scores


@pytest.mark.parametrize("metric", ["comet", "bertscore"])
def test_a_local_path_without_a_model_is_named(metric: str, tmp_path: Path) -> None:
    evaluation = scored(metric, **{f"{metric}_model": str(tmp_path)})
    assert evaluation.scores == {}
    assert str(tmp_path) in evaluation.skipped[metric]
    assert "\n" not in evaluation.skipped[metric]


def test_a_broken_checkpoint_and_one_without_settings_are_named(comet_folder: Path, tmp_path: Path) -> None:
    for folder in ("lonely", "broken"):
        (tmp_path / folder / "checkpoints").mkdir(parents=True)
        (tmp_path / folder / "checkpoints" / "model.ckpt").write_bytes(b"not a checkpoint")
    (tmp_path / "broken" / "hparams.yaml").write_text((comet_folder / "hparams.yaml").read_text())
    lonely = scored("comet", comet_model=str(tmp_path / "lonely"))
    assert f"no file {tmp_path / 'lonely' / 'hparams.yaml'}" in lonely.skipped["comet"]
    broken = scored("comet", comet_model=str(tmp_path / "broken" / "checkpoints" / "model.ckpt"))
    assert broken.scores == {} and "broken" in broken.skipped["comet"] and "\n" not in broken.skipped["comet"]


def test_what_bertscore_cannot_do_is_named(roberta: Path) -> None:
    deep = scored("bertscore", bertscore_model=str(roberta), bertscore_layer=3)
    assert "evaluation.bertscore_layer=3, but the model has 2 layers" in deep.skipped["bertscore"]
    scale = scored("bertscore", bertscore_model=str(roberta), bertscore_rescale=True)
    assert "no baseline" in scale.skipped["bertscore"] and "bertscore_rescale=false" in scale.skipped["bertscore"]


def test_a_missing_library_and_a_gated_model_have_their_own_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(name: str) -> None:
        from requests import Response

        raise GatedRepoError("403 Client Error\nlong story", response=Response())

    monkeypatch.setattr(neural, "_find_comet", gated)
    reason = scored("comet", comet_model="org/gated").skipped["comet"]
    assert "gated" in reason and "hf auth login" in reason and "org/gated" in reason

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'comet'")

    monkeypatch.setattr(neural, "_find_comet", missing)
    reason = scored("comet").skipped["comet"]
    assert "not there" in reason and "pip install unbabel-comet" in reason
    reason = scored_texts(["comet"], ["a"], ["a"], None, "en").skipped["comet"]
    assert "sources=FILE" in reason


def test_a_neural_metric_is_computed_once_per_content(
    comet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = neural._load_comet

    def counted(checkpoint: Path, encoder: str) -> object:
        loaded.append(checkpoint)
        return load(checkpoint, encoder)

    monkeypatch.setattr(neural, "_load_comet", counted)

    def score(predictions: list[str], folder: Path = comet_folder) -> Score:
        config = EvaluationConfig(comet_model=str(folder))
        return scored_texts(["comet"], predictions, REFERENCES, SOURCES, "en", config).scores["comet"]

    first = score(PREDICTIONS)
    assert score(PREDICTIONS) == first and len(loaded) == 1
    assert score(PREDICTIONS[::-1]).segments != first.segments and len(loaded) == 2
    for file in cache_folder().iterdir():
        file.write_text('{"scores": [1, 2')
    assert score(PREDICTIONS) == first and len(loaded) == 3  # a file that cannot be read costs time, never the run
    assert score(PREDICTIONS) == first and len(loaded) == 3
    # another model in the place of the first must not be answered for by the first
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    state = torch.load(comet_folder / "checkpoints" / "model.ckpt")
    state["state_dict"] = {name: tensor + 0.1 for name, tensor in state["state_dict"].items()}
    torch.save(state, other / "checkpoints" / "model.ckpt")
    (other / "hparams.yaml").write_text((comet_folder / "hparams.yaml").read_text())
    assert score(PREDICTIONS, other).segments != first.segments and len(loaded) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"scores": 3}', '{"scores": [1, "a"]}', '{"scores": [1.0, NaN]}'])
def test_whatever_a_cache_file_holds_the_scores_are_right(content: str) -> None:
    def kept() -> list[float]:
        return cached_scores("COMET", "signature", [["a", "b"]], lambda: [1.0, 2.0])

    kept()
    (file,) = cache_folder().iterdir()
    file.write_text(content)
    assert kept() == [1.0, 2.0]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached_scores("COMET", "signature", [["a"]], lambda: [1.0]) == [1.0]


def test_comet_scores_do_not_depend_on_batching(comet_folder: Path) -> None:
    def segments(copies: int) -> list[float]:
        texts = (PREDICTIONS * copies, REFERENCES * copies, SOURCES * copies)
        config = EvaluationConfig(comet_model=str(comet_folder), batch_size=16)
        return scored_texts(["comet"], *texts, "en", config).segment_scores()["comet"]

    assert segments(1) * 12 == pytest.approx(segments(12), rel=1e-4)  # 36 samples: three batches, the last one short
