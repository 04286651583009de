"""Whether the Hugging Face hub can be reached."""

from __future__ import annotations

import huggingface_hub
from huggingface_hub import constants


def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached; asked once, since the libraries try for half a minute otherwise."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        huggingface_hub.utils.get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # two major versions of the library raise errors of two different packages here
        return False
    return True
