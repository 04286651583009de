"""Between the shell and the stages: preparation, one job, one line per error, sweeps checked before they start."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from warmup.config.checks import check
from warmup.config.explain import explain_composition
from warmup.config.schema import register
from warmup.errors import UserError
from warmup.files import write_text

log = logging.getLogger(__name__)
FULL_ERROR = "HYDRA_FULL_ERROR"
NEXT_STEPS = """
What to try next (each run has its own folder in {folder}, with model/, predictions.jsonl and metrics.json):
  read what a model wrote     less {folder}/*/predictions.jsonl
  answer a file of your own   python scripts/train.py run=predict checkpoint={folder}/RUN/model inputs=FILE
  see every choice            python scripts/train.py --help
"""
ASKED_FOR_TRACEBACK = os.environ.get(FULL_ERROR) == "1"


def prepare() -> None:
    """What has to be there before Hydra composes: the schema, and one start time for all processes of a launcher."""
    register()
    OmegaConf.register_new_resolver("start_time", _start_time, use_cache=True, replace=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its warning at every fork says nothing to a user
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|transformers|hydra")


def _start_time() -> str:
    """Processes that torchrun or accelerate started share their launcher's start time, so they share a run folder."""
    launched = "WORLD_SIZE" in os.environ
    moment = datetime.fromtimestamp(psutil.Process(os.getppid()).create_time()) if launched else datetime.now()
    return moment.strftime("%Y-%m-%d_%H-%M-%S")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line on standard error and a status that is not 0; with HYDRA_FULL_ERROR=1, with the traceback."""
    os.environ[FULL_ERROR] = "1"  # Hydra then hands its exceptions on instead of printing them
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: the same command with hydra.run.dir=FOLDER of this run goes on from its last checkpoint")
        sys.exit(130)
    except Exception as error:
        if ASKED_FOR_TRACEBACK:
            raise
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2)
    finally:
        if not ASKED_FOR_TRACEBACK:
            os.environ.pop(FULL_ERROR, None)


def describe(error: Exception) -> str:
    """One line about any exception."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        multirun = bool({"-m", "--multirun"} & set(sys.argv[1:]))
        return str(explain_composition(command_line_overrides(), multirun, error))
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    name = type(error).__name__
    return f"{name}: {' '.join(str(error).split())} (HYDRA_FULL_ERROR=1 shows where)"


def command_line_overrides() -> list[str]:
    """The `key=value` words that were typed."""
    return [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]


def run_job(composed: DictConfig) -> None:
    """One run. In a multirun its failure is written down, and the others go on."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        config = check(composed)
        from warmup.run import run  # here, so that --help and a wrong override need not wait for transformers

        run(config, composed, folder, list(hydra_config.overrides.task))
    except Exception as error:
        line = describe(error)
        log.debug("%s", traceback.format_exc())
        if hydra_config.mode == RunMode.MULTIRUN:
            write_text(folder / "error.txt", line + "\n")
            print(f"error: {folder.name}: {line}", file=sys.stderr)
            return
        if (folder / "config.yaml").exists():
            write_text(folder / "error.txt", line + "\n")
        elif folder.is_dir() and {path.name for path in folder.iterdir()} <= {"train.log"}:
            shutil.rmtree(folder)  # nothing was begun: a typing mistake leaves no folder behind
        with one_line_errors():
            raise


class Sweep(Callback):
    """Checks every job of a multirun before the first one starts, and ends the multirun with its table."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        with _exit_on_error():
            for job in self._jobs(config):
                check(compose("config", job))

    def _jobs(self, config: DictConfig) -> list[list[str]]:
        """The overrides of each job; none for a sweeper that picks its values as it goes."""
        if not config.hydra.sweeper._target_.endswith("BasicSweeper"):
            return []
        swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*swept, *config.hydra.overrides.task])
        return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        from warmup.run import compare

        folder = Path(config.hydra.sweep.dir)
        with _exit_on_error():
            failed = compare(folder)
        print(NEXT_STEPS.format(folder=folder))
        if failed:
            sys.exit(1)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Hydra turns a callback's exception into a warning and goes on; an exit it lets through."""
    try:
        yield
    except Exception as error:
        if ASKED_FOR_TRACEBACK:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2)
