"""COMET and BERTScore: metrics that are models themselves, fetched from the hub or read from a folder.

Both return scores, or one line that says why there are none: no network, not installed, gated, not a model.
Everything is imported where it is used: importing comet takes seconds.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from warmup.config.languages import language_code
from warmup.display import without_secrets
from warmup.metrics.metric import Metric, Score, ScoreKind, ScoringSettings, Texts
from warmup.metrics.score_cache import cached_scores

log = logging.getLogger(__name__)
# What a metric's model needs; no pickled weights where the hub has safetensors beside them.
ENCODER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
T5_FAMILY = {"t5", "mt5", "umt5"}


class Comet(Metric):
    """COMET (Rei et al. 2022), the mean over examples; its own scale is about 0 to 1, and is given times 100."""

    name = "comet"
    scores = (ScoreKind("comet", "COMET", limits=(None, None)),)
    tasks = ("translation",)
    package = "unbabel-comet"
    needs_sources = True
    loads_model = True
    model_key = "comet_model"

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """By a hub name, a local `model.ckpt` or the folder that holds `checkpoints/model.ckpt` and `hparams.yaml`."""
        name, batch_size, device = settings.evaluation.comet_model, settings.evaluation.batch_size, settings.device
        columns = (texts.sources or [], texts.predictions, texts.references)
        samples = [dict(zip(("src", "mt", "ref"), row, strict=True)) for row in zip(*columns, strict=True)]
        try:
            library = f"unbabel-comet:{version('unbabel-comet')}"
            checkpoint, encoder, identity = _find_comet(name)
            signature = f"{library}|model:{without_secrets(name)}@{identity}|tokenizer and encoder:{encoder}|mean x100"
            scores = cached_scores(
                self.title,
                signature,
                columns,
                lambda: _comet_scores(_load_comet(checkpoint, encoder).eval().to(device), samples, device, batch_size),
            )
        except Exception as error:  # comet raises bare Exceptions; a missing score must not cost the run its others
            return _reason(self, name, error)
        return {self.name: Score.mean([100 * score for score in scores], signature)}


class BertScore(Metric):
    """BERTScore F1 (Zhang et al. 2020), mean over examples.

    An empty prediction scores 0 before rescaling. Texts are cut at the encoder's maximum length, as bert_score does.
    """

    name = "bertscore"
    scores = (ScoreKind("bertscore", "BERTScore", limits=(None, 100)),)
    tasks = ("translation", "summarization")
    package = "bert-score"
    loads_model = True
    model_key = "bertscore_model"

    def score(self, texts: Texts, settings: ScoringSettings) -> dict[str, Score] | str:
        """By a model of the hub or a folder, at the layer that bert_score found best for that name, else the last."""
        config = settings.evaluation
        name = config.bertscore_model
        language = language_code(settings.target_language or "en")
        try:
            from bert_score.utils import get_hash, lang2model

            if name == "roberta-large" and language != "en":
                log.warning("BERTScore: roberta-large reads English; for %s take %s", language, lang2model[language])
            folder, identity = _find_encoder(name)
            layer = _layer(name, folder, config.bertscore_layer)
            baseline = _baseline(name, layer, language) if config.bertscore_rescale else 0.0
            library = get_hash(name, layer, False, config.bertscore_rescale, False, False)
            signature = f"{library}|model and tokenizer:{without_secrets(name)}@{identity}|f1:mean|rescaled:"
            signature += f"{language} baseline {baseline:.6f}" if config.bertscore_rescale else "no"
            columns = (texts.predictions, texts.references)
            scores = cached_scores(
                self.title,
                signature,
                columns,
                lambda: _bertscore_f1(*_load_bertscore(folder, layer, settings.device), *columns, config.batch_size),
            )
        except Exception as error:  # as above
            return _reason(self, name, error)
        return {self.name: Score.mean([100 * (score - baseline) / (1 - baseline) for score in scores], signature)}


def _find_comet(name: str) -> tuple[Path, str, str]:
    """A COMET checkpoint by hub name or path: its file, the encoder it names, and what identifies it.

    Raises:
        FileNotFoundError: a local path without a checkpoint or without its hparams.yaml.
    """
    import yaml
    from huggingface_hub import snapshot_download

    path = Path(name).expanduser().absolute()  # not resolved: in the hub's cache a checkpoint is a link to elsewhere
    local = path.suffix == ".ckpt" or path.is_dir()
    if path.suffix == ".ckpt":
        checkpoint = path
    else:
        # not comet.download_model: it hides whether the network, the licence or the name is at fault
        folder = path if local else Path(snapshot_download(name))
        checkpoint = folder / "checkpoints" / "model.ckpt"
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no file {checkpoint}")
    settings = checkpoint.parents[1] / "hparams.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"no file {settings}; COMET reads it one folder above the checkpoint's")
    encoder = yaml.safe_load(settings.read_text(encoding="utf-8"))["pretrained_model"]
    return checkpoint, encoder, _digest_files([checkpoint, settings]) if local else folder.name[:12]


def _load_comet(checkpoint: Path, encoder: str) -> Any:
    """The model; the files of its encoder are fetched too, weights excepted, since the checkpoint holds them."""
    import torch
    import yaml
    from huggingface_hub import snapshot_download

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecations are not the user's to mend
        import comet
    if not Path(encoder).is_dir():
        snapshot_download(encoder, allow_patterns=["*.json", "*.model", "*.txt"])
    # as comet.load_from_checkpoint, which leaves it to its libraries whether pickles may run
    settings = yaml.safe_load(checkpoint.parents[1].joinpath("hparams.yaml").read_text(encoding="utf-8"))
    changed = {"layer_transformation": "softmax"} if settings.get("layer_transformation") == "sparsemax_patch" else {}
    return comet.models.str2model[settings["class_identifier"]].load_from_checkpoint(
        checkpoint,
        map_location=torch.device("cpu"),
        strict=False,
        weights_only=True,
        load_pretrained_weights=False,
        local_files_only=True,
        **changed,
    )


def _comet_scores(comet: Any, samples: Sequence[dict[str, str]], device: str, batch_size: int) -> list[float]:
    """One score per sample, in their order; samples of like length go together.

    Not `comet.predict`: its Lightning trainer refuses to start under torchrun, and mistakes a SLURM job for its own.
    """
    import torch

    scores: dict[int, float] = {}
    with torch.inference_mode(), _progress("COMET", len(samples)) as bar:
        for chosen in _batches([sum(map(len, sample.values())) for sample in samples], batch_size):
            batch = comet.prepare_sample([samples[index] for index in chosen], stage="predict")
            batch = comet.transfer_batch_to_device(batch, torch.device(device), 0)
            found = comet.predict_step(batch)["scores"].float().tolist()
            scores.update(zip(chosen, found, strict=True))
            bar.update(len(chosen))
    return [scores[index] for index in range(len(samples))]


def _find_encoder(name: str) -> tuple[str, str]:
    """The folder of BERTScore's model, fetched if need be, and what identifies it."""
    from huggingface_hub import snapshot_download

    path = Path(name).expanduser()
    if path.is_dir():
        return str(path), _digest_files(file for kind in [*ENCODER_FILES, "*.bin"] for file in path.glob(kind))
    folder = snapshot_download(name, allow_patterns=ENCODER_FILES)
    return folder, Path(folder).name[:12]


def _layer(name: str, folder: str, wanted: int | None) -> int:
    """Raises ValueError: the model has fewer layers than the one `wanted`."""
    from bert_score.utils import model2layers
    from transformers import AutoConfig

    layers = AutoConfig.from_pretrained(folder, trust_remote_code=False).num_hidden_layers
    if wanted is not None and wanted > layers:
        raise ValueError(f"evaluation.bertscore_layer={wanted}, but the model has {layers} layers")
    best = model2layers.get(name, model2layers.get(Path(name).name, layers))
    return min(best, layers) if wanted is None else wanted


def _baseline(name: str, layer: int, language: str) -> float:
    """The F1 of unrelated sentences, which rescaling maps to 0, out of bert_score's own tables.

    Raises:
        LookupError: bert_score has no table for this model and language.
    """
    import bert_score

    tables = Path(bert_score.__file__).parent / "rescale_baseline" / language
    for known in (name, Path(name).name):
        table = tables / f"{known}.tsv"
        if table.is_file():
            return float(table.read_text(encoding="utf-8").splitlines()[1 + layer].split(",")[3])
    raise LookupError(f"bert_score has no baseline of it for {language}: evaluation.bertscore_rescale=false")


def _load_bertscore(folder: str, layer: int, device: str) -> tuple[Any, Any]:
    """The encoder cut behind `layer`, and its tokenizer.

    bert_score's own loader takes any path with "t5" in it for a T5, and retries a missing network for a minute.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

    as_text = {"use_fast": False, "split_special_tokens": True}  # `</s>` is text
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **as_text)
    family = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    kind = T5EncoderModel if family in T5_FAMILY else AutoModel
    model = kind.from_pretrained(folder, trust_remote_code=False, weights_only=True).eval().to(device)
    encoder = model.encoder if hasattr(model, "decoder") and hasattr(model, "encoder") else model
    _keep_layers(encoder, layer)
    # a tokenizer saved without its limit would send positions that the encoder does not have
    positions = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    first = 0 if padding is None else padding + 1  # RoBERTa counts positions behind its padding's
    limit = getattr(encoder.config, "max_position_embeddings", 512) - first
    tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    return encoder, tokenizer


def _keep_layers(encoder: Any, layer: int) -> None:
    """Drop the layers behind `layer`, which nobody reads; where each architecture has them, as bert_score does.

    Raises:
        TypeError: an architecture that keeps its layers elsewhere.
    """
    import torch

    for place in ("encoder.layer", "encoder.block", "transformer.layer", "layers", "layer"):
        *above, name = place.split(".")
        owner = getattr(encoder, above[0], None) if above else encoder
        found = getattr(owner, name, None)
        if isinstance(found, torch.nn.ModuleList):
            setattr(owner, name, found[:layer])
            return
    raise TypeError(f"a {type(encoder).__name__} cannot be cut behind a layer")


def _bertscore_f1(
    encoder: Any, tokenizer: Any, predictions: Sequence[str], references: Sequence[str], batch_size: int
) -> list[float]:
    """F1 of each pair, 0 to 1, in their order; pairs of like length go together. Without text there is no match: 0."""
    from bert_score.utils import bert_cos_score_idf

    special_tokens_weigh_nothing = {tokenizer.sep_token_id: 0.0, tokenizer.cls_token_id: 0.0}
    weights: dict[int, float] = defaultdict(lambda: 1.0, special_tokens_weigh_nothing)
    device = str(encoder.device)
    scores = [0.0] * len(predictions)
    worded = [i for i in range(len(scores)) if predictions[i].strip() and references[i].strip()]
    lengths = [len(predictions[index]) + len(references[index]) for index in worded]
    with _progress("BERTScore", len(worded)) as bar:
        for places in _batches(lengths, batch_size):
            chosen = [worded[place] for place in places]
            truths, answers = [references[index] for index in chosen], [predictions[index] for index in chosen]
            found = bert_cos_score_idf(encoder, truths, answers, tokenizer, weights, device=device)[:, 2]
            for index, value in zip(chosen, found.tolist(), strict=True):
                scores[index] = value
            bar.update(len(chosen))
    return scores


def _batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length, the longest first, so that a GPU too small for them says so at once."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _progress(metric: str, total: int) -> Any:
    return tqdm(total=total, desc=metric, unit="example", leave=False, dynamic_ncols=True)


def _digest_files(files: Any) -> str:
    """Twelve hexadecimal digits that stand for the names and contents of files."""
    whole = hashlib.sha256()
    for file in sorted(files):
        with open(file, "rb") as opened:
            whole.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return "sha256-" + whole.hexdigest()[:12]


def _reason(metric: Metric, name: str, error: Exception) -> str:
    """One line: which metric, which model, what went wrong and what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    local = f"or name a local one, evaluation.{metric.model_key}=PATH"
    if isinstance(error, ImportError):
        cause = f"the library is not there ({error}); pip install {metric.package}"
    elif isinstance(error, GatedRepoError):
        cause = f"the model is gated; accept its licence on the hub and run `hf auth login`, {local}"
    elif isinstance(error, RepositoryNotFoundError):
        cause = f"the hub has no such model, or none that you may read; {local[3:]}"
    elif isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        cause = f"no network and the model is not in the cache; fetch it once with a network, {local}"
    else:
        cause = f"{type(error).__name__}: {error}"
    line = without_secrets(f"{metric.title} ({name}): {cause}")
    return " ".join(line.split())[:400]  # CUDA's complaints run to pages
