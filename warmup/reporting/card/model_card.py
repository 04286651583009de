"""The model card of a saved model: `README.md` beside its weights, as the Hugging Face hub shows it."""

from __future__ import annotations

import json
import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from warmup.config.languages import TOY, language_code
from warmup.config.lora import ADAPTER_FILE
from warmup.config.schema import Config, HubData
from warmup.data.hub_access import hub_answers
from warmup.files import write_text
from warmup.metrics.registry import score_order, score_title
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.reporting.tables.markdown import markdown_text
from warmup.runs.metrics_records import METHOD_NAMES, RunMetrics

CARD_FILE = "README.md"
ARXIV = "2502.12304"
REPOSITORY_TASKS = {"translation": "translation", "summarization": "summarization"}  # by the hub's names; else:
OTHER_TASK = "text-generation"
WITHOUT_SNIPPET = ("mbart",)  # it begins a target with a language


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        labels: as tables name the run (`warmup.runs.labels`).
        metrics: of the run that trained the model; None where it has not been evaluated.
        model_type: as config.json has it.
        hub_name: where the model is sent to; None where it stays here.
    """

    config: Config
    settings: CheckpointSettings
    labels: Mapping[str, Any]
    metrics: RunMetrics | None
    model_type: str
    hub_name: str | None = None


def write_model_card(folder: Path, facts: CardFacts) -> None:
    """Write the card of the model in `folder`, whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    template = (files(__package__) / "model_card.md.jinja").read_text(encoding="utf-8")
    metrics = facts.metrics
    card = ModelCard.from_template(
        _card_metadata(facts),
        template_str=template,
        title=markdown_text(_card_title(facts)),
        what=_card_summary(facts),
        facts=[(name, markdown_text(str(value))) for name, value in _fact_rows(facts)],
        scores=[] if metrics is None else _score_rows(metrics),
        notes=[] if metrics is None else [markdown_text(note) for note in metrics.notes],
        split="" if metrics is None else markdown_text(metrics.split),
        examples="" if metrics is None else f"{metrics.examples:,}",
        wording=_worded_json(facts),
        snippet=_card_snippet(folder, facts),
    )
    write_text(folder / CARD_FILE, str(card))


def _card_title(facts: CardFacts) -> str:
    labels = facts.labels
    return f"{labels['model']}, {METHOD_NAMES[labels['method']]}, {labels['task']}"


def _card_summary(facts: CardFacts) -> str:
    paper = f"[Warmup Generations](https://arxiv.org/abs/{ARXIV})"
    method = facts.settings.method
    if method == "warmup":
        return f"Writes a short warmup of its own before its answer ({paper})."
    before = "after pause tokens, the control" if method == "pause" else "without a warmup, the baseline"
    return f"Answers {before} of {paper}."


def _fact_rows(facts: CardFacts) -> list[tuple[str, Any]]:
    config, metrics, limits = facts.config, facts.metrics, facts.settings.limits
    pretrained = config.model.pretrained
    base = "none: built fresh" if pretrained is None else Path(pretrained).name if _is_here(pretrained) else pretrained
    trained = None if metrics is None else metrics.training_steps
    rows = [
        ("task", facts.labels["task"]),
        ("data", facts.labels["data"]),
        ("base model", base),
        ("method", METHOD_NAMES[facts.settings.method]),
        ("seed", facts.labels["seed"]),
        ("training steps", trained),
        ("source tokens, at most", limits.source),
        ("warmup tokens, at most", limits.warmup),
        ("pause tokens", limits.pauses),
        ("target tokens, at most", limits.target),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _score_rows(metrics: RunMetrics) -> list[tuple[str, str, str]]:
    ordered = sorted(metrics.scores.items(), key=lambda entry: score_order(entry[0]))
    return [(markdown_text(score_title(n)), f"{s.value:.2f}", markdown_text(s.signature)) for n, s in ordered]


def _card_metadata(facts: CardFacts) -> ModelCardData:
    """What the hub's search goes by; a folder's path is nobody else's business."""
    config, data, scores = facts.config, facts.config.data, facts.metrics.scores if facts.metrics else {}
    pretrained, split = config.model.pretrained, facts.metrics.split if facts.metrics else None
    published = pretrained if pretrained and not _is_here(pretrained) else None
    kind = REPOSITORY_TASKS.get(config.task.name, OTHER_TASK)
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=str(facts.labels["data"]),
            dataset_name=f"{facts.labels['data']} ({facts.labels['task']})",
            dataset_split=split,
            metric_type=name,
            metric_value=round(score.value, 4),
            metric_args={"signature": score.signature},
        )
        for name, score in scores.items()
    ]
    return ModelCardData(
        model_name=_card_title(facts),
        base_model=published,
        license=_licence(pretrained),
        language=_card_languages(config) or None,
        datasets=[str(data.train.path)] if isinstance(data, HubData) and data.train.path else None,
        metrics=sorted(scores) or None,
        eval_results=results or None,
        library_name="transformers",
        pipeline_tag=kind,
        tags=["warmup-generations", facts.settings.method, f"arxiv:{ARXIV}"],
    )


def _card_languages(config: Config) -> list[str]:
    task = config.task
    codes = [language_code(language) for language in (task.source_language, task.target_language)]
    return [code for code in codes if code != TOY.code] if task.name == "translation" else []


def _is_here(name: str) -> bool:
    return Path(name).expanduser().exists()


def _licence(pretrained: str | None) -> str | None:
    """What the base model's own card says; None where it has none, or nobody can be asked."""
    if pretrained is None:
        return None
    card = Path(pretrained).expanduser() / CARD_FILE
    try:
        if card.is_file():
            return ModelCard.load(card, ignore_metadata_errors=True).data.license
        if not _is_here(pretrained) and hub_answers():
            return ModelCard.load(pretrained, ignore_metadata_errors=True).data.license
    except Exception:  # a card that cannot be read says nothing
        return None
    return None


def _card_snippet(folder: Path, facts: CardFacts) -> str | None:
    """README's own Python, for the fields of this task; None for a model that needs more than it does."""
    settings, names = facts.settings, facts.settings.wording.source_fields
    plain = all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    needs_more = settings.method == "pause" or settings.sharpening.vocabulary or facts.model_type in WITHOUT_SNIPPET
    if not plain or needs_more or (folder / ADAPTER_FILE).is_file():
        return None
    text = (files(__package__) / "answer.py.txt").read_text(encoding="utf-8")
    given = ", ".join(names)
    changes = {
        "def answer(source):": f"def answer({given}):",
        ".format(source=source)": f".format({', '.join(f'{name}={name}' for name in names)})",
        text.splitlines()[-1]: f"print(answer({', '.join(f'{name}={json.dumps(name)}' for name in names)}))",
        'folder = "outputs/RUN/model"': 'folder = "."  # this one',
    }
    if facts.hub_name:
        changes['folder = "outputs/RUN/model"'] = f"folder = snapshot_download({json.dumps(facts.hub_name)})"
        changes["import torch\n"] = "import torch\nfrom huggingface_hub import snapshot_download\n"
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def _worded_json(facts: CardFacts) -> str:
    """As JSON, no line of which can end a code block."""
    wording = facts.settings.wording
    shown = {"source_template": wording.source_template, "target_template": wording.target_template}
    return json.dumps(shown, indent=2, ensure_ascii=False)
