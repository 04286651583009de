"""A checkpoint is whole or it is none: a damaged one is named and passed over, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tiny_backbone
from tests.training.test_resuming import SHAPE, Killed, assert_same, contents, scores
from tests.training.tiny_fit import SFT, train
from warmup import manifest
from warmup.errors import UserError
from warmup.manifest import MANIFEST_FILE, damage
from warmup.training.checkpoints import aside, checkpoints, last_checkpoint

FILES = ["config.json", "manifest.json", "model.safetensors", "optimizer.pt", "progress.json", "rng_state.pth"]
FILES += ["scheduler.pt", "tokenizer.json", "trainer_state.json", "warmup_config.json"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed in its evaluation at step 8; the best checkpoint is that of step 2."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        train(tiny_backbone, folder, SFT, score=scores(9.0, 1.0, 2.0, None), keep_checkpoints=9, **SHAPE)
    return folder


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * place)] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "halved": halve,
    "first byte": lambda path: flip(path, 0),
    "middle byte": lambda path: flip(path, 0.5),
    "last byte": lambda path: flip(path, 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0") and None,
    "folder": be_a_folder,
}


def test_every_file_of_a_checkpoint_is_contents(run: Path) -> None:
    checkpoint = run / "checkpoints" / "checkpoint-6"
    found = {path.name for path in checkpoint.iterdir()}
    assert set(FILES) <= found
    assert set(json.loads((checkpoint / MANIFEST_FILE).read_text())) == found - {MANIFEST_FILE}
    assert damage(checkpoint) is None


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_passed_over(run: Path, caplog, name: str, how: str) -> None:
    folder = run / "checkpoints"
    if (name, how) == (MANIFEST_FILE, "last byte"):
        (folder / "checkpoint-6" / name).write_text("{}")  # its last byte is a line break
    else:
        DAMAGES[how](folder / "checkpoint-6" / name)
    assert last_checkpoint(folder) == folder / "checkpoint-4"
    (line,) = caplog.messages
    assert line.startswith(f"{folder}/checkpoint-6 is damaged and passed over: ") and (
        name in line or name == MANIFEST_FILE
    )
    assert "\n" not in line and len(checkpoints(folder)) == 3


MANIFESTS = ["[]", "{}", "3", '{"model.safetensors": 3}', '{"/etc/passwd": {}}', '{"a\\u0000b": {}}', "[" * 100_000]


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest_that_is_none_is_damage(run: Path, text: str) -> None:
    (run / "checkpoints" / "checkpoint-6" / MANIFEST_FILE).write_text(text)
    assert last_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-4"


def test_a_run_goes_on_from_the_one_before_to_the_same_end(killed: Path, run: Path, make_backbone) -> None:
    expected = train(make_backbone, killed.parent / "whole", SFT, score=scores(9.0, 1.0, 2.0, 3.0), **SHAPE)
    for name in ("optimizer.pt", "scheduler.pt"):  # with neither, the Trainer begins both anew and says nothing
        (run / "checkpoints" / "checkpoint-6" / name).unlink()
    found = train(make_backbone, run, SFT, score=scores(2.0, 3.0), **SHAPE)
    assert_same(expected, found)
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["checkpoint-2", "checkpoint-8"]
    assert not aside(run / "checkpoints").exists() and damage(run / "checkpoints" / "checkpoint-8") is None


def test_damaged_ones_do_not_count_as_kept(run: Path, make_backbone) -> None:
    (run / "checkpoints" / "checkpoint-6" / "optimizer.pt").unlink()
    (run / "checkpoints" / "checkpoint-4" / "optimizer.pt").unlink()
    with pytest.raises(Killed):  # behind the save at step 4
        train(make_backbone, run, SFT, score=scores(1.0, None), **SHAPE)
    assert last_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-4"


def test_all_damaged_is_one_line_and_nothing_is_removed(run: Path, make_backbone) -> None:
    for checkpoint in checkpoints(run / "checkpoints"):
        halve(checkpoint / "optimizer.pt")
    before = contents(run)
    message = "all 3 checkpoints in .* are damaged .checkpoint-2: optimizer.pt is not as it was written.: remove .* to"
    with pytest.raises(UserError, match=message):
        train(make_backbone, run, SFT, score=scores(), **SHAPE)
    assert contents(run) == before


@pytest.mark.parametrize(("how", "fault"), [("gone", "it is gone"), ("damaged", "model.safetensors is missing")])
def test_a_best_checkpoint_that_is_damaged_is_named(run: Path, make_backbone, how: str, fault: str) -> None:
    best = run / "checkpoints" / "checkpoint-2"
    if how == "gone":
        shutil.rmtree(best)
    else:
        (best / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"checkpoint-2, the best checkpoint so far, is damaged .{fault}."):
        train(make_backbone, run, SFT, score=scores(), **SHAPE)


@pytest.mark.parametrize("at", ["listing", "renaming"])
def test_a_kill_while_saving_leaves_nothing_behind(run: Path, make_backbone, monkeypatch, at: str) -> None:
    def kill(*_: object) -> None:
        raise Killed

    rename = os.replace

    def kill_in_place_of_checkpoint(old: Path, new: Path) -> None:  # every file is renamed into place, by the same call
        kill() if Path(new).name.startswith("checkpoint-") else rename(old, new)

    with monkeypatch.context() as patch:
        if at == "listing":
            patch.setattr(manifest, "_contents", kill)
        else:
            patch.setattr(os, "replace", kill_in_place_of_checkpoint)
        with pytest.raises(Killed):
            train(make_backbone, run, SFT, score=scores(3.0), **SHAPE)
    names = [path.name for path in checkpoints(run / "checkpoints")]
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-6"] and aside(run / "checkpoints").exists()
    train(make_backbone, run, SFT, score=scores(3.0), **SHAPE)
    assert not [path for path in run.rglob("*") if "unfinished" in path.name or "replaced" in path.name]


def test_a_folder_that_goes_away_in_mid_run_is_an_error(make_backbone, tmp_path: Path) -> None:
    def remove() -> float:
        shutil.rmtree(tmp_path / "run")
        return 1.0

    with pytest.raises(UserError, match="cannot write to .*/run/checkpoints: it was removed or renamed while"):
        train(make_backbone, tmp_path / "run", SFT, score=remove, **SHAPE)
    assert not (tmp_path / "run").exists()
