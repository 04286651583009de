"""What data, headers, file names and predictions hold reaches a terminal spelt out, and no longer than a screen."""

from __future__ import annotations

import ast
import io
import json
import logging
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from tests.bad_input.command import LONGEST, Ended, command
from tests.bad_input.conftest import Refused
from tests.saved_model import save_model
from tests.test_architecture import MODULES, named, tree_of
from warmup.display import LineFormatter, console, error_text, visible
from warmup.errors import UserError, nearest, wrong_value

CLEAR, TURN = "\x1b[2J", "\u202e"  # a terminal clears its screen, and writes from right to left
HOSTILE = f"{CLEAR}{TURN}\x07\x9b31m\u2066x\u2069\u200f\u061c"
WHERE_TEXT_LEAVES = "warmup/display.py"


def clean(ended: Ended) -> Ended:
    for text in (ended.printed, ended.errors):
        raw = {letter for letter in text if not letter.isprintable()} - {"\n", "\r"}
        assert not raw, f"{raw} in {text[-500:]!r}"
        assert all(len(line) <= LONGEST for line in text.splitlines())
    return ended


def test_what_a_terminal_obeys_is_spelt_out() -> None:
    assert visible(f"a{CLEAR}b{TURN}c") == "a\\x1b[2Jb\\u202ec"
    assert visible("a\nb\tc") == "a\\nb\\tc" and visible("a\nb", keep="\n") == "a\nb"
    assert visible("\ud800") == "\\ud800"
    assert visible("Grüße, 你好, שלום, нет, 👩\u200d🔬") == "Grüße, 你好, שלום, нет, 👩\u200d🔬"


def test_an_error_is_one_line_of_a_screen() -> None:
    assert error_text("a\nb\r\n c") == "a b c"
    long = str(UserError("begins " + "x" * 10**7 + " ends"))
    assert len(long) < LONGEST and long.startswith("begins") and long.endswith("ends")
    assert str(wrong_value("key", "v" * 10**6, "1 to 5")).endswith("; allowed: 1 to 5")
    assert nearest("k" * 10**7, ["key"]) == "" and nearest("kye", ["key", "k" * 10**7]) == "; did you mean 'key'?"


def test_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("n", logging.WARNING, "p", 1, "%s has\n%d of %r", (f"a\n{HOSTILE}", 3, "x\x1b"), None)
    shown = LineFormatter("%(message)s").format(record)
    assert shown.startswith("a\\n\\x1b[2J\\u202e") and shown.endswith("has\n3 of x\\x1b") is False
    assert shown.split("\n")[1].startswith("3 of ") and "\x1b" not in shown
    record = logging.LogRecord("n", logging.WARNING, "p", 1, "%s", ("y" * 10**6,), None)
    assert len(LineFormatter("%(message)s").format(record)) < LONGEST


def test_tables() -> None:
    screen = console()
    screen.file = io.StringIO()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    for shown in (table, Text(HOSTILE), HOSTILE):
        screen.print(shown)
    written = screen.file.getvalue()
    assert "\\x1b[2J" in written and not {letter for letter in written if not letter.isprintable()} - {"\n"}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_there_is_one_way_to_the_terminal(path: Path) -> None:
    """Studies print their own figures alone."""
    if named(path) == WHERE_TEXT_LEAVES or named(path).startswith("warmup/studies"):
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "Console", "sys.stdout.write", "sys.stderr.write"), named(
                path
            )


def test_headers_fields_and_file_names(workplace: Path, refused: Refused) -> None:
    words = ["task=summarization", "data=local", "method=sft"]
    for name, content in (
        ("a.csv", f"{HOSTILE},b\nx,y\n"),
        ("b.jsonl", json.dumps({HOSTILE: 1}) + "\n"),
        ("c.jsonl", json.dumps({"document": "x", "summary": [HOSTILE]}) + "\n"),
        (f"d{CLEAR}{TURN}.jsonl", "{"),
    ):
        (workplace / name).write_text(content, encoding="utf-8")
        refused(*words, f"data.train='{name}'")
    assert "\\x1b" in refused(*words, f"data.train='none{CLEAR}.jsonl'")
    assert "\\u202e" in refused(f"seed='{TURN}'")
    refused(f"{TURN}=1")
    refused(f"--{CLEAR}")


def test_predictions_labels_and_records(workplace: Path) -> None:
    (workplace / "p.jsonl").write_text(json.dumps({"prediction": HOSTILE, "reference": HOSTILE, "source": HOSTILE}))
    ended = clean(command("run=score", "predictions=p.jsonl", "hydra.run.dir=scored"))
    assert ended.status == 0, ended.errors
    record = json.loads((workplace / "outputs/earlier/metrics.json").read_text())
    record |= {"task": HOSTILE, "model": HOSTILE, "notes": [HOSTILE], "skipped": {HOSTILE: HOSTILE}}
    record["scores"] = {"bleu": {"value": 1.0, "signature": HOSTILE}, HOSTILE: {"value": 1.0, "signature": "s"}}
    folder = workplace / "outputs" / f"x{CLEAR}{TURN}"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(record))
    failed = workplace / "outputs" / f"y{CLEAR}"
    failed.mkdir()
    (failed / "error.txt").write_text(HOSTILE)
    clean(command("run=tables", "runs=outputs", "hydra.run.dir=tables"))


def test_answers_of_a_model(workplace: Path) -> None:
    save_model(workplace / f"model{TURN}", ["a dog", HOSTILE])
    (workplace / "in.txt").write_text(f"a{HOSTILE}\n", encoding="utf-8")
    words = ["run=predict", f"checkpoint='model{TURN}'", "inputs=in.txt", "hydra.run.dir=out"]
    ended = clean(command(*words))
    assert ended.status == 0, ended.errors
