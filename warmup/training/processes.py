"""The processes that torchrun or accelerate started: which one writes and speaks, and how one leaves the others."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import psutil

if TYPE_CHECKING:
    import torch


LAUNCHERS = {"torchrun", "accelerate", "accelerate-launch"}  # as programs, and as modules of `python -m`:
LAUNCHER_MODULES = {"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch"}
HEAD_START = 3.0  # seconds in which the first process finds what the others found


def is_launched() -> bool:
    """Whether torchrun or accelerate started this process, and maybe others like it."""
    return "WORLD_SIZE" in os.environ


def number_of_processes() -> int:
    """How many there are like this one, with it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def give_way() -> None:
    """Called on an error: the first process, which has mostly found the same one, says so and ends the others."""
    if is_launched() and not is_main_process():
        time.sleep(HEAD_START)


def end_all(status: int) -> NoReturn:
    """Exit; and end the launcher and the processes that it started on this machine, so that our line is the last.

    They would wait for this process for ever, or fail over its absence with a line each, and the launcher would add
    forty of its own. It is killed, since every signal that it handles makes it write a traceback; not where it is to
    start its processes again.
    """
    restarts = [os.environ.get(f"TORCHELASTIC_{name}") for name in ("RESTART_COUNT", "MAX_RESTARTS")]
    launcher = _launcher()
    if launcher is None or restarts[0] != restarts[1]:
        sys.exit(status)
    started = [process for process in launcher.children() if process.pid != os.getpid()]
    for process in [launcher, *started]:  # the launcher first: it watches the others
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # an orderly exit would wait for the others


def _launcher() -> psutil.Process | None:
    """The parent, if it is torchrun or accelerate."""
    try:
        parent = psutil.Process(os.getppid())
        return parent if _is_launcher(parent.cmdline()) else None
    except psutil.Error:
        return None


def _is_launcher(words: Sequence[str]) -> bool:
    """Whether a command line is one of theirs, and no script that happens to be called so."""
    programs = {os.path.basename(word) for word in words[:2]}
    modules = {module for option, module in zip(words, words[1:], strict=False) if option == "-m"}
    is_python = any(os.path.basename(word).startswith("python") for word in words[:1])
    return bool(programs & LAUNCHERS) or (is_python and bool(modules & LAUNCHER_MODULES))


def is_main_process() -> bool:
    """Whether this is the only process, or the first that torchrun or accelerate started: the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def true_anywhere(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any process; all processes call this, and go on alike."""
    import torch  # here, since command_line asks this module which process it is, before torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return flag
    flags = torch.tensor(int(flag), device=device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags.item())


def quiet_libraries() -> None:
    """One voice: libraries speak only of errors, and of several processes only the first speaks."""
    warnings.filterwarnings("ignore", message="mtime may not be reliable")  # said at every checkpoint
    for library in (
        "transformers",
        "huggingface_hub",
        "datasets",
        "fsspec",
        "urllib3",
        "httpx",
        "matplotlib",
        "sacrebleu",
        "torch._dynamo",
        "bitsandbytes",
    ):
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
