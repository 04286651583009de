"""The metrics and the types of models, until their own rooms register them."""

from __future__ import annotations

from dataclasses import dataclass

from warmup.config.facts import Facts


@dataclass(frozen=True)
class _Known:
    name: str
    score_names: list[str]
    tasks: tuple[str, ...] = ()
    needs_labels: bool = False
    loads_model: bool = False
    model_key: str = ""


METRICS = {
    known.name: known
    for known in (
        _Known("bleu", ["bleu"], ("translation",)),
        _Known("chrf", ["chrf"], ("translation", "summarization")),
        _Known("rouge", ["rouge1", "rouge2", "rougeL"], ("summarization",)),
        _Known("accuracy", ["accuracy"], needs_labels=True),
        _Known("macro_f1", ["macro_f1"], needs_labels=True),
        _Known("comet", ["comet"], ("translation",), loads_model=True, model_key="comet_model"),
        _Known(
            "bertscore", ["bertscore"], ("translation", "summarization"), loads_model=True, model_key="bertscore_model"
        ),
    )
}
METRIC_SCORES = {name: metric.score_names for name, metric in METRICS.items()}
NEURAL_METRICS = tuple(name for name, metric in METRICS.items() if metric.loads_model)
# The rows of `warmup.models.model_types`, each with whether it has dropout.
ARCHITECTURES = {
    "t5": True,
    "mt5": True,
    "bart": True,
    "mbart": True,
    "llama": False,
    "mistral": False,
    "qwen2": False,
}
FACTS = Facts(METRICS, ARCHITECTURES)
