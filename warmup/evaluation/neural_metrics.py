"""COMET and BERTScore: metrics that are models themselves, fetched from the hub or read from a folder.

Both return scores, or one line that says why there are none: no network, not installed, gated, not a model. The
environment variables `COMET_MODEL` and `BERTSCORE_MODEL` name another hub model or a local path. Everything is
imported where it is used: importing comet takes seconds.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from warmup.evaluation.metrics import Score

COMET_MODEL = "Unbabel/wmt22-comet-da"
# What a metric's model needs; no pickled weights where the hub has safetensors beside them.
ENCODER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def score_comet(
    predictions: Sequence[str], references: Sequence[str], sources: Sequence[str], device: str, model: str | None = None
) -> dict[str, Score] | str:
    """COMET (Rei et al. 2022), the mean over examples times 100; or the reason why there is none.

    Args:
        predictions, references, sources: one string per example.
        device: "cpu" or "cuda".
        model: hub name, or a local `model.ckpt` or the folder that holds `checkpoints/model.ckpt` and `hparams.yaml`;
            None reads the environment variable COMET_MODEL, else takes `COMET_MODEL`.
    """
    name = model or os.environ.get("COMET_MODEL") or COMET_MODEL
    samples = [
        {"src": source, "mt": prediction, "ref": reference}
        for source, prediction, reference in zip(sources, predictions, references, strict=True)
    ]
    try:
        scores = _comet_scores(_load_comet(name).eval().to(device), samples, device)
    except Exception as error:  # comet raises bare Exceptions; a missing score must not cost the run its others
        return _reason("COMET", name, "COMET_MODEL", error)
    return {
        "comet": Score(100 * sum(scores) / len(scores), f"unbabel-comet:{version('unbabel-comet')}|model:{name}|x100")
    }


def score_bertscore(
    predictions: Sequence[str],
    references: Sequence[str],
    target_language: str | None,
    device: str,
    model: str | None = None,
) -> dict[str, Score] | str:
    """BERTScore F1 (Zhang et al. 2020), unscaled, mean over examples in percent; or the reason why there is none.

    An empty prediction scores 0. Texts are cut at the encoder's maximum length, as bert_score does.

    Args:
        predictions, references: one string per example.
        target_language: ISO 639 code; picks the model that bert_score recommends, `roberta-large` for English or None.
        device: "cpu" or "cuda".
        model: hub name or local folder; None reads the environment variable BERTSCORE_MODEL, else goes by language.
    """
    name = model or os.environ.get("BERTSCORE_MODEL") or ""
    try:
        from bert_score.utils import bert_cos_score_idf, get_hash, lang2model

        name = name or lang2model[(target_language or "en").lower().replace("_", "-").split("-")[0]]
        encoder, tokenizer, layers = _load_bertscore(name, device)
        special_tokens_weigh_nothing = {tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0}
        weights: dict[int, float] = defaultdict(lambda: 1.0, special_tokens_weigh_nothing)
        pairs = [(p, r) for p, r in zip(predictions, references, strict=True) if p.strip() and r.strip()]
        total = 0.0
        if pairs:
            answers, truths = ([*texts] for texts in zip(*pairs, strict=True))
            total = float(bert_cos_score_idf(encoder, truths, answers, tokenizer, weights, device=device)[:, 2].sum())
    except Exception as error:  # as above
        return _reason("BERTScore", name or "roberta-large", "BERTSCORE_MODEL", error)
    signature = f"{get_hash(name, layers, False, False, False, False)}|f1:mean|rescaled:no"
    return {"bertscore": Score(100 * total / len(references), signature)}


def _load_comet(name: str) -> Any:
    """A COMET model by hub name or path; the files of its encoder are fetched too, weights excepted."""
    import yaml
    from huggingface_hub import snapshot_download

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecations are not the user's to mend
        import comet

    path = Path(name).expanduser()
    if path.suffix == ".ckpt" or path.is_dir():
        checkpoint = path if path.suffix == ".ckpt" else path / "checkpoints" / "model.ckpt"
        if not checkpoint.is_file():
            raise FileNotFoundError(f"no file {checkpoint}")
    else:
        # not comet.download_model: it hides whether the network, the licence or the name is at fault
        checkpoint = Path(snapshot_download(name)) / "checkpoints" / "model.ckpt"
    settings = checkpoint.parents[1] / "hparams.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"no file {settings}")
    encoder = yaml.safe_load(settings.read_text(encoding="utf-8"))["pretrained_model"]
    if not Path(encoder).is_dir():
        snapshot_download(encoder, allow_patterns=["*.json", "*.model"])
    return comet.load_from_checkpoint(str(checkpoint), local_files_only=True)


def _comet_scores(comet: Any, samples: Sequence[dict[str, str]], device: str, batch_size: int = 16) -> list[float]:
    """One score per sample, in no particular order: samples of like length go together.

    Not `comet.predict`: its Lightning trainer refuses to start under torchrun, and mistakes a SLURM job for its own.
    """
    import torch

    ordered = sorted(samples, key=lambda sample: len(sample["src"]) + len(sample["mt"]))
    scores: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            batch = comet.prepare_sample(ordered[start : start + batch_size], stage="predict")
            batch = comet.transfer_batch_to_device(batch, torch.device(device), 0)
            scores += comet.predict_step(batch)["scores"].float().tolist()
    return scores


def _load_bertscore(name: str, device: str) -> tuple[Any, Any, int]:
    """The encoder cut to the layer that bert_score found best (a folder of another name: its last), and tokenizer.

    bert_score's own loader takes any path with "t5" in it for a T5, and retries a missing network for a minute.
    """
    import torch
    from bert_score.utils import model2layers
    from huggingface_hub import snapshot_download
    from transformers import AutoModel, AutoTokenizer

    folder = str(Path(name).expanduser())
    if not Path(folder).is_dir():
        folder = snapshot_download(name, allow_patterns=ENCODER_FILES)
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=False)
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval().to(device)
    layers = model2layers.get(name, model2layers.get(Path(name).name, encoder.config.num_hidden_layers))
    encoder.encoder.layer = torch.nn.ModuleList(encoder.encoder.layer[:layers])
    # a tokenizer saved without its limit would send positions that the encoder does not have
    limit = encoder.config.max_position_embeddings - (2 if "roberta" in encoder.config.model_type else 0)
    tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    return encoder, tokenizer, layers


def _reason(metric: str, name: str, variable: str, error: Exception) -> str:
    """One line: which metric, which model, what went wrong and what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    local = f"or name a local one in the environment variable {variable}"
    if isinstance(error, ImportError):
        package = "unbabel-comet" if metric == "COMET" else "bert-score"
        cause = f"the library is not there ({error}); pip install {package}"
    elif isinstance(error, GatedRepoError):
        cause = f"the model is gated; accept its licence on the hub and run `hf auth login`, {local}"
    elif isinstance(error, RepositoryNotFoundError):
        cause = f"the hub has no such model, or none that you may read; {local[3:]}"
    elif isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        cause = f"no network and the model is not in the cache; fetch it once with a network, {local}"
    else:
        cause = f"{type(error).__name__}: {error}"
    return " ".join(f"{metric} ({name}): {cause}".split())[:400]  # CUDA's complaints run to pages
