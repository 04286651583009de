"""`push_to_hub=NAME`: the model and its card on the Hugging Face hub."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token

from warmup.data.hub_access import hub_answers
from warmup.display import hide
from warmup.errors import UserError, first_line

log = logging.getLogger(__name__)


def check_access(name: str) -> None:
    """See before any training that a model can be sent.

    Raises:
        UserError: there is no token, no network, or the hub does not take the token.
    """
    token = get_token()
    if token is None:
        raise UserError(f"push_to_hub={name} needs a token, and there is none: run `hf auth login`, or set HF_TOKEN")
    hide(token, "HF_TOKEN")
    if not hub_answers():
        raise UserError(f"push_to_hub={name}: cannot reach the Hugging Face hub at {constants.ENDPOINT}")
    try:
        HfApi().whoami()
    except Exception as error:  # two major versions of the library raise errors of two different packages here
        raise UserError(f"push_to_hub={name}: the hub does not take the token ({first_line(error)})") from error


def send_model(name: str, folder: Path) -> None:
    """Send what is in `folder`, weights and card, in one commit; the repository is made where there is none.

    Raises:
        UserError: it was not sent; the line has the command that tries again.
    """
    try:
        repository = HfApi().create_repo(name, exist_ok=True)
        HfApi().upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="The trained model")
    except Exception as error:  # whatever the network, the hub or the library raises
        raise UserError(
            f"the model was not sent to {name} ({first_line(error)}); the run is finished, and its folder has "
            f"everything. To try again: hf upload {shlex.quote(name)} {shlex.quote(str(folder))} ."
        ) from error
    log.info("the model and its card are at %s", repository)
