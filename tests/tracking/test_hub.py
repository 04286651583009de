"""`push_to_hub`: refused before training where it cannot work, sent when all is done, and a failure loses nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, RepoUrl

from tests.test_train_command import TINY, command, error_line
from warmup.errors import UserError
from warmup.tracking.hub import check_access, send_model

TOKEN = "hf_aTokenThatNobodyMaySee0123456789"
NO_HUB = {"HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["push_to_hub=me/model"], {"HF_TOKEN": ""}, "push_to_hub=me/model needs a token"),
        (["push_to_hub=me/model"], {"HF_TOKEN": TOKEN, **NO_HUB}, "cannot reach the Hugging Face hub"),
        (["push_to_hub=me/a/b"], {}, "push_to_hub is 'me/a/b'; allowed: NAME or USER/NAME"),
        (["push_to_hub=a--b"], {}, "push_to_hub is 'a--b'"),
        (["push_to_hub=me/model", "run=tables"], {}, "with run=all or run=train"),
        (["push_to_hub=me/model", "-m", "seed=1,2"], {}, "a name for each job"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_training(
    tmp_path: Path, words: list[str], environment: dict[str, str], said: str
) -> None:
    env = {"HF_HOME": str(tmp_path / "home"), **environment}
    result = command(*TINY, *words, f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep", **env)
    line = error_line(result)
    assert said in line and TOKEN not in result.stdout + result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


class FakeHub:
    """What is asked of the hub; `refuses` is raised at the upload."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: Exception | None = None) -> None:
        self.sent: dict[str, Any] = {}

        def create_repo(api: HfApi, name: str, exist_ok: bool) -> RepoUrl:
            assert exist_ok
            return RepoUrl(f"https://huggingface.co/me/{name.rpartition('/')[2]}")

        def upload_folder(api: HfApi, repo_id: str, folder_path: Path, **_: Any) -> None:
            if refuses:
                raise refuses
            self.sent[repo_id] = sorted(path.name for path in folder_path.iterdir())

        monkeypatch.setattr(HfApi, "create_repo", create_repo)
        monkeypatch.setattr(HfApi, "upload_folder", upload_folder)


def test_model_and_card_are_sent_in_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    hub = FakeHub(monkeypatch)
    for name in ("README.md", "model.safetensors"):
        (tmp_path / name).write_text("x")
    with caplog.at_level(logging.INFO):
        send_model("model", tmp_path)  # a name without a user is the token's own
    assert hub.sent == {"me/model": ["README.md", "model.safetensors"]}
    assert "https://huggingface.co/me/model" in caplog.text


def test_a_failure_says_how_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub(monkeypatch, OSError("403 Forbidden\nmore lines"))
    with pytest.raises(UserError) as error:
        send_model("me/model", tmp_path / "a folder")
    line = str(error.value)
    assert "403 Forbidden" in line and "\n" not in line
    assert f"hf upload me/model '{tmp_path}/a folder' ." in line and "the run is finished" in line


def test_a_token_that_the_hub_does_not_take_is_no_secret_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmup.tracking.hub.get_token", lambda: TOKEN)
    monkeypatch.setattr("warmup.tracking.hub.hub_answers", lambda: True)

    def whoami(api: HfApi) -> None:
        raise OSError(f"401 for {TOKEN}")

    monkeypatch.setattr(HfApi, "whoami", whoami)
    with pytest.raises(UserError, match="does not take the token") as error:
        check_access("me/model")
    assert TOKEN not in str(error.value)
