"""What a checkpoint says of how it answers."""

from __future__ import annotations

from pathlib import Path

from warmup.files import write_json
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.sharpening import Sharpening


def test_a_checkpoint_of_before_options_were_a_property_answers_alike(tmp_path: Path) -> None:
    wording = {"source_template": "{question} {options}", "target_template": "{answer}"}
    wording |= {"task": "logiqa", "source_language": None, "target_language": None}
    content = {"format": 1, "limits": {"source": 9, "warmup": 2, "target": 3}, "wording": wording}
    write_json(tmp_path / "warmup_config.json", content)
    settings = CheckpointSettings.read(str(tmp_path))
    assert settings
    example = settings.wording.example({"question": "q", "options": list("wxyz"), "answer": 3}, "here")
    assert (example.prompt, example.target, example.options) == ("q A) w B) x C) y D) z", "D", ("A", "B", "C", "D"))
    assert settings.sharpening == Sharpening(1.0, 1.0)  # as a file without that section was trained
    settings.write(tmp_path)
    assert CheckpointSettings.read(str(tmp_path)) == settings
    write_json(tmp_path / "warmup_config.json", {**content, "wording": {**wording, "task": "custom"}})
    other = CheckpointSettings.read(str(tmp_path))
    assert other and other.wording.options is None
