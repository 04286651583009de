"""run=score: predictions made by anything, in every form, and what is said about a broken one."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.metrics.conftest import PREDICTIONS, REFERENCES, SOURCES
from warmup.errors import UserError
from warmup.metrics.metric import Texts
from warmup.metrics.prediction_files import read_scorable

ROOT = Path(__file__).parents[2]
RECORDS = [
    {"source": source, "warmup": None, "prediction": prediction, "reference": reference}
    for source, prediction, reference in zip(SOURCES, PREDICTIONS, REFERENCES, strict=True)
]


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def lines(texts: list[str]) -> str:
    return "".join(text + "\n" for text in texts)


def json_lines(records: list[dict[str, object]]) -> str:
    return lines([json.dumps(record) for record in records])


def score_command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "scripts/train.py", "run=score", f"hydra.run.dir={folder / 'run'}", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_form_reads_alike(tmp_path: Path, ending: str) -> None:
    expected = Texts(PREDICTIONS, REFERENCES, SOURCES)
    ours = write(tmp_path / f"predictions.jsonl{ending}", json_lines(RECORDS))
    assert read_scorable(ours, None, None) == expected
    plain = [
        write(tmp_path / f"{name}.txt{ending}", lines(texts))
        for name, texts in (("predictions", PREDICTIONS), ("references", REFERENCES), ("sources", SOURCES))
    ]
    assert read_scorable(plain[0], plain[1], plain[2]) == expected
    assert read_scorable(plain[0], plain[1], None) == Texts(PREDICTIONS, REFERENCES, None)
    assert read_scorable(plain[0], ours, ours) == expected
    only = write(tmp_path / f"only.jsonl{ending}", json_lines([{"prediction": text} for text in PREDICTIONS]))
    assert read_scorable(only, plain[1], None) == Texts(PREDICTIONS, REFERENCES, None)


def test_a_named_file_wins_over_the_records_and_newlines_stay_inside_a_text(tmp_path: Path) -> None:
    records = [{"prediction": "a\nb", "reference": "old\nreference", "source": "s"}]
    ours = write(tmp_path / "predictions.jsonl", json_lines(records))
    assert read_scorable(ours, None, None) == Texts(["a\nb"], ["old\nreference"], ["s"])
    references = write(tmp_path / "references.txt", "new\n")
    assert read_scorable(ours, references, None).references == ["new"]


def test_no_carriage_return_and_no_empty_answer_shifts_the_lines(tmp_path: Path) -> None:
    answers, truths = ["the house", "the\rdog", "", "\x85\u2028the cat"], ["the house", "the dog", "a", "the cat"]
    references = write(tmp_path / "references.txt", lines(truths))
    expected = Texts(answers, truths, None)
    for end in ("\n", "\r\n"):
        (tmp_path / "predictions.txt").write_bytes("".join(text + end for text in answers).encode())
        assert read_scorable(str(tmp_path / "predictions.txt"), references, None) == expected
        table = "".join(text + end for text in ["prediction", *answers])
        for kind in ("csv", "tsv"):
            (tmp_path / f"predictions.{kind}").write_bytes(table.encode())
            assert read_scorable(str(tmp_path / f"predictions.{kind}"), references, None) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prediction": "a", "reference": "b"}\n{"prediction": "a"\n', "line 2: not JSON"),
        ('{"prediction": "a", "reference": "b"}\n["a"]\n', "line 2: not a JSON object"),
        ('{"prediction": "a", "reference": "b"}\n\n{"answer": "a"}\n', "line 3: no field 'prediction', only answer"),
        ('{"prediction": "a", "reference": null}\n', "line 1: no field 'reference', only prediction.*references=FILE"),
        ('{"prediction": ["a"], "reference": "b"}\n', "line 1: field 'prediction' is a list, not text"),
        ('{"prediction": "\\ud800", "reference": "b"}\n', "line 1: field 'prediction' holds half a character"),
        ('{"prediction": NaN, "reference": "b"}\n', "line 1: field 'prediction' is NaN, not text"),
        ('{"prediction": 1e999, "reference": -Infinity}\n', "line 1: field 'reference' is -Infinity, not text"),
        (json_lines([RECORDS[0], {"prediction": "a", "reference": "b"}]), "line 2: no field 'source'.*sources=FILE"),
        ("\n", "has no predictions"),
    ],
)
def test_a_broken_record_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "predictions.jsonl", content)
    with pytest.raises(UserError, match=message) as error:
        read_scorable(path, None, None)
    assert path in str(error.value)


@pytest.mark.parametrize("given", ["references", "sources"])
@pytest.mark.parametrize("count", [2, 4])
def test_files_of_different_length_are_named_with_the_first_line_that_is_alone(
    tmp_path: Path, given: str, count: int
) -> None:
    predictions = write(tmp_path / "predictions.txt", lines(PREDICTIONS))
    other = write(tmp_path / "other.txt", lines((REFERENCES * 2)[:count]))
    whole = write(tmp_path / "references.txt", lines(REFERENCES))
    longer = other if count == 4 else predictions
    with pytest.raises(UserError, match=f"{longer}, line {min(count, 3) + 1}: "):
        read_scorable(predictions, other if given == "references" else whole, other if given == "sources" else None)


def test_plain_text_alone_asks_for_its_references(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.txt", lines(PREDICTIONS))
    with pytest.raises(UserError, match="references=FILE"):
        read_scorable(path, None, None)


def test_the_command_scores_plain_text_with_every_metric_and_keeps_the_neural_ones(
    tmp_path: Path, comet_folder: Path, roberta: Path
) -> None:
    files = [
        f"{name}={write(tmp_path / f'{name}.txt.gz', lines(texts))}"
        for name, texts in (("predictions", PREDICTIONS), ("references", REFERENCES), ("sources", SOURCES))
    ]
    models = [f"evaluation.comet_model={comet_folder}", f"evaluation.bertscore_model={roberta}"]
    words = [*files, *models, "task=translation_de_en", "task.metrics=[bleu,chrf,comet,bertscore]"]
    result = score_command(tmp_path, *words)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["run"], metrics["task"], metrics["examples"]) == ("score", "translation de-en", 3)
    assert list(metrics["scores"]) == ["bleu", "chrf", "comet", "bertscore"] and metrics["skipped"] == {}
    printed = "".join(result.stdout.split())
    for name, score in metrics["scores"].items():
        assert f"{score['value']:.2f}" in printed, name
        assert "".join(score["signature"].split())[:30] in printed, name
    segments = json.loads((tmp_path / "run" / "segment_scores.json").read_text())
    for name in ("comet", "bertscore"):
        assert sum(segments[name]) / 3 == pytest.approx(metrics["scores"][name]["value"])


def test_the_command_ends_in_one_line_about_a_bad_file(tmp_path: Path) -> None:
    predictions = write(tmp_path / "predictions.txt", lines(PREDICTIONS))
    references = write(tmp_path / "references.txt", lines(REFERENCES[:2]))
    result = score_command(tmp_path, f"predictions={predictions}", f"references={references}")
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(errors) == 1 and f"{predictions}, line 3: " in errors[0] and "Traceback" not in result.stdout
