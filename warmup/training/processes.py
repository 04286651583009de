"""The processes that torchrun or accelerate started: which one writes and speaks, and how one leaves the others."""

from __future__ import annotations

import gc
import logging
import os
import warnings


def is_main_process() -> bool:
    """Whether this is the only process, or the first that torchrun or accelerate started: the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def quiet_libraries() -> None:
    """One voice: libraries speak only of errors, and of several processes only the first speaks."""
    import transformers  # here, since command_line asks this module which process it is, before torch

    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="mtime may not be reliable")  # said at every checkpoint
    for library in ("huggingface_hub", "datasets", "fsspec", "urllib3", "httpx", "matplotlib", "sacrebleu"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if not is_main_process():
        logging.getLogger().setLevel(logging.ERROR)


def leave_process_group() -> None:
    """Destroy the process group, if there is one, while the interpreter is whole.

    gloo's threads let go of a collective's tensors after it has returned, and need the GIL for that. Left to the
    interpreter's end, this aborts the process now and then (pytorch PR 179291); left to the reducer of DDP, which
    holds the GIL while it waits for those threads, it hangs.
    """
    import torch.distributed as dist  # here, since command_line asks this module which process it is, before torch

    if dist.is_initialized():
        gc.collect()  # a reducer that is garbage must not be the last to own the group
        dist.destroy_process_group()
