"""The model card beside saved weights: what it says, that nothing in it is taken for markup, and its Python."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.saved_model import SETTINGS
from tests.test_readme import answered_by_the_snippet, predicted
from tests.test_train_command import TINY, command
from warmup.config.schema import Config, HubData, HubSplit, LocalData, ModelConfig, SftMethod, TaskConfig
from warmup.metrics.evaluation import Score
from warmup.models.checkpoint_settings import CheckpointSettings, Limits
from warmup.reporting.card.model_card import CardFacts, write_model_card
from warmup.runs.metrics_records import RunMetrics

LABELS = {"task": "translation de-en", "data": "news", "model": "tiny|<b>", "method": "warmup", "seed": 1}
METRICS = RunMetrics(
    **LABELS, examples=1200, scores={"bleu": Score(12.345, "nrefs:1|case:mixed")}, notes=["*cut* <script>"]
)


def facts_of(**changes: Any) -> CardFacts:
    task = TaskConfig(name="translation", source_language="de", target_language="en")
    config = Config(task=task, data=LocalData(), model=ModelConfig(name="x", pretrained="org/base"), method=SftMethod())
    for key in ("data", "model"):
        if key in changes:
            setattr(config, key, changes.pop(key))
    return replace(CardFacts(config, SETTINGS, LABELS, METRICS, "t5"), **changes)


def card_of(folder: Path, facts: CardFacts, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("warmup.reporting.card.model_card.hub_answers", lambda: False)
    folder.mkdir(exist_ok=True)
    write_model_card(folder, facts)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_run_leaves_a_card_whose_python_answers_as_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = command("task=summarization", *TINY, "method=warmup", f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    sources, predictions = predicted(folder / "predictions.jsonl")
    assert answered_by_the_snippet(folder / "model", sources, card) == predictions
    metrics = json.loads((folder / "metrics.json").read_text())
    for score in metrics["scores"].values():
        assert f"{score['value']:.2f}" in card
    found = {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results or []}
    assert found == {name: round(score["value"], 4) for name, score in metrics["scores"].items()}


def test_what_the_hub_reads_is_said_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A base\n")
    data = ModelCard(card_of(tmp_path / "a", facts_of(), monkeypatch)).data
    assert (data.base_model, data.license, data.language) == ("org/base", None, ["de", "en"])
    own = facts_of(model=ModelConfig(name="x", pretrained=str(base)))
    text = card_of(tmp_path / "b", own, monkeypatch)
    data = ModelCard(text).data
    assert (data.base_model, data.license) == (None, "cc-by-4.0") and str(tmp_path) not in text
    hub = HubData(train=HubSplit(path="wmt/wmt16"))
    assert ModelCard(card_of(tmp_path / "c", facts_of(data=hub), monkeypatch)).data.datasets == ["wmt/wmt16"]


def test_names_and_notes_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = replace(SETTINGS.wording, source_template="a\n```\n# not a heading {source} {{% raw %}}")
    text = card_of(tmp_path / "a", facts_of(settings=replace(SETTINGS, wording=hostile)), monkeypatch)
    assert "<script>" not in text and "<b>" not in text.partition("\n---\n")[2] and r"tiny\|" in text
    assert not re.search(r"^# not a heading", text, re.MULTILINE)
    head = yaml.safe_load(text.split("---")[1])
    assert head["model-index"][0]["name"] == "tiny|<b>, warmup, translation de-en"


def test_without_scores_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not evaluated yet." in card_of(tmp_path / "a", facts_of(metrics=None), monkeypatch)


@pytest.mark.parametrize("kind", ["pause", "mbart", "adapters"])
def test_python_that_would_answer_otherwise_is_left_out(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = CheckpointSettings(Limits(64, None, 64, 8), SETTINGS.wording)
    changes = {"pause": {"settings": pauses}, "mbart": {"model_type": "mbart"}, "adapters": {}}[kind]
    if kind == "adapters":
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "adapter_config.json").write_text("{}")
    assert "```python" in card_of(tmp_path / "plain", facts_of(), monkeypatch)
    assert "```python" not in card_of(tmp_path / "a", facts_of(**changes), monkeypatch)


def test_a_model_that_is_sent_away_is_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card_of(tmp_path / "a", facts_of(hub_name="me/model"), monkeypatch)
    assert 'folder = snapshot_download("me/model")' in text and "import snapshot_download" in text
