"""Between the shell and the stages: preparation, one job, one line per error."""

from __future__ import annotations

import atexit
import copy
import logging
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
from hydra._internal.utils import get_args_parser  # no public way tells options from overrides as Hydra does
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from warmup.config.checks import check
from warmup.config.environment import described, environment_digests, register_environment
from warmup.config.explain import explain_composition
from warmup.config.facts import Facts
from warmup.config.neutral_keys import digest_of_numbers
from warmup.config.schema import Config, register
from warmup.display import say_error, without_secrets
from warmup.errors import UserError, one_line, wrong_value
from warmup.metrics.registry import METRICS
from warmup.runs.file_names import RunFile, last_file
from warmup.runs.folder import finished, remove_if_nothing_was_done
from warmup.runs.inputs import refuse_changed_files
from warmup.runs.labels import labels_of
from warmup.runs.lock import FolderTaken, writing
from warmup.runs.records import Failure, RunConfiguration
from warmup.training.interruption import INTERRUPTION, Interrupted
from warmup.training.processes import end_all, give_way, is_launched, is_main_process, leave_process_group

log = logging.getLogger(__name__)
FACTS = Facts(METRICS)
ABOUT_OTHERS = ("tables", "status")  # stages without results of their own to lose
FULL_ERROR = "HYDRA_FULL_ERROR"
ASKED_FOR_TRACEBACK = os.environ.get(FULL_ERROR) == "1"


def prepare() -> None:
    """What has to be there before Hydra composes: the schema, and one start time for all processes of a launcher."""
    register()
    sys.argv[1:] = _options_first(sys.argv[1:])
    OmegaConf.register_new_resolver("start_time", _start_time, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True)
    OmegaConf.register_new_resolver("digest", _digest, replace=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its warning at every fork says nothing to a user
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|transformers|hydra")


def _options_first(words: list[str]) -> list[str]:
    """Options wherever they stand: Hydra reads no override behind one, and takes -m only in front."""
    values = {name: action.nargs != 0 for action in get_args_parser()._actions for name in action.option_strings}
    options: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
        elif word not in ("-m", "--multirun"):
            options.append(word)
            if values.get(word) and (value := next(rest, None)) is not None:
                options.append(value)
    flag = [word for word in words if word in ("-m", "--multirun")][:1]
    return [*flag, *options, *overrides]


def _start_time() -> str:
    """Processes that torchrun or accelerate started share their launcher's start time, so they share a run folder."""
    parent = os.getppid()
    moment = datetime.fromtimestamp(psutil.Process(parent).create_time()) if is_launched() else datetime.now()
    return moment.strftime("%Y-%m-%d_%H-%M-%S")


def _folder_name(run: str, task: str, model: str, method: str, seed: int) -> str:
    """What a run's folder is called: by what it trains, or by its stage, where the checkpoint says the rest.

    Hydra makes the folder before any value is checked: a wrong one must not reach outside it.
    """
    if run in ("all", "train"):
        name = f"{task}_{model}_{method}_seed{seed}"
    else:
        name = f"{run}_{task}" if run in ("evaluate", "score") else str(run)
    return re.sub(r"[/${}]+", "_", without_secrets(name))


def _sweep_name(experiment: str | None) -> str:
    return "sweep" if experiment in (None, "null") else f"sweep_{experiment}".replace("/", "_")


def _digest(*, _root_: DictConfig) -> str:
    """Of what changes the numbers of the run that `_root_` configures."""
    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    return digest_of_numbers(RunConfiguration.of(own).values)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line on standard error and a status that is not 0; with HYDRA_FULL_ERROR=1, with the traceback."""
    os.environ[FULL_ERROR] = "1"  # Hydra then hands its exceptions on instead of printing them
    try:
        INTERRUPTION.listen()
        _check_options()
        yield
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        give_way()
        say_error(INTERRUPTION.line(stop))
        end_all(stop.status if isinstance(stop, Interrupted) else 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not INTERRUPTION.folder:  # no run: `--help | head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if ASKED_FOR_TRACEBACK:
            raise
        give_way()
        say_error(f"error: {error_line(error)}")
        end_all(2)
    finally:
        if not ASKED_FOR_TRACEBACK:
            os.environ.pop(FULL_ERROR, None)


def error_line(error: Exception) -> str:
    """One line about any exception."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename and HydraConfig.initialized():
        return f"cannot read or write {error.filename}: {error.strerror}"
    if isinstance(error, (HydraException, OmegaConfBaseException, RecursionError)) or not HydraConfig.initialized():
        typed, _ = get_args_parser().parse_known_args()
        return str(explain_composition(typed.overrides, typed.multirun, error, typed.config_dir))
    return one_line(error)


def _check_options() -> None:
    """Hydra's own answer to a misspelt option is a screenful."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what there is")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    known, unknown = parser.parse_known_args()
    if known.experimental_rerun:
        raise UserError("--experimental-rerun reads a pickle, which may run anything: give the run's command again")
    if unknown:
        raise UserError(f"there is no option {unknown[0]!r}: values are given as key=value; --help lists what there is")


def run_job(composed: DictConfig) -> None:
    """One run; its failure is written down where the folder is its own, and ends the program."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    is_new = not (folder / RunFile.CONFIG).exists()
    try:
        carry_out(composed)
    except Exception:
        if is_new and is_main_process() and folder.is_dir():
            remove_if_nothing_was_done(folder)
        with one_line_errors():
            raise
    if is_new and composed.run == "status":
        remove_if_nothing_was_done(folder)


def carry_out(composed: DictConfig, wanted: Callable[[], bool] = lambda: True) -> None:
    """Check, own the folder, and do what is left to do of a run. Why it failed is written down in a folder of its own.

    Args:
        wanted: asked once nobody else can change the folder; where it says no, nothing is done.

    Raises:
        FolderTaken: another process is at it.
        Exception: whatever else ended it.
    """
    register_environment()  # in joblib's processes nobody has yet
    hydra_config = HydraConfig.get()
    os.chdir(hydra_config.runtime.cwd)  # also with hydra.job.chdir: relative paths are those of the command
    folder = Path(hydra_config.runtime.output_dir)
    multirun = hydra_config.mode == RunMode.MULTIRUN
    INTERRUPTION.listen()  # a launcher may have begun this job in a process of its own
    shared = f"hydra.sweep.dir={os.path.relpath(hydra_config.sweep.dir)}"
    INTERRUPTION.folder = shared if multirun else f"hydra.run.dir={os.path.relpath(folder)}"
    log_file = folder / RunFile.LOG
    log_is_new = log_file.is_file() and not log_file.stat().st_size
    ours = False
    try:
        config = check(composed, FACTS)
        with writing(folder) if is_main_process() else nullcontext():
            done = config.run not in ABOUT_OTHERS and is_done(folder, composed, config)
            ours = True
            if not wanted():
                return
            with _failures_written(folder, config.run):
                if done:
                    _say_that_it_is_done(folder, config, multirun)
                else:
                    _begin(config, composed, hydra_config)
    except FolderTaken:
        raise  # the log, empty or not, is the other process's as well
    except Exception:
        if log_is_new and not ours:
            log_file.unlink(missing_ok=True)
        raise


@contextmanager
def _failures_written(folder: Path, stage: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.debug("where it failed", exc_info=error)
        give_way()
        if folder.is_dir() and stage not in ABOUT_OTHERS:
            Failure(error_line(error)).write(folder)
        raise


def _begin(config: Config, composed: DictConfig, hydra_config: HydraConf) -> None:
    """Hand the job to its stage, with what Hydra knows of it."""
    multirun = hydra_config.mode == RunMode.MULTIRUN
    if not multirun:
        _say_what_a_single_run_leaves_out(hydra_config)
    folder = Path(hydra_config.runtime.output_dir)
    overrides: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    _say_what_begins(config, described(composed), folder)
    from warmup.overviews import OVERVIEWS

    if config.run in OVERVIEWS:
        OVERVIEWS[config.run](config, folder)
        return
    from warmup.run import Job, run_stage  # here, so that neither --help nor the first line need wait for torch

    atexit.register(leave_process_group)
    run_stage(Job(config, composed, folder, overrides, Path(hydra_config.sweep.dir) if multirun else None))


def _say_what_begins(config: Config, written: dict[str, Any], folder: Path) -> None:
    """The first line, before seconds of imports."""
    if is_main_process() and config.run in ("all", "train"):
        labels = labels_of(config, written, config.method.name)
        named = [labels[name] for name in ("method", "model", "task", "data")]
        log.info("%s: %s trains %s on %s, data %s", folder, *named)


def _say_that_it_is_done(folder: Path, config: Config, multirun: bool) -> None:
    """And make what its tables lack: a run may have ended before them."""
    log.info("%s is finished already; its results are in %s", folder, last_file(config.run))
    if not multirun and config.run in ("all", "evaluate") and is_main_process():
        from warmup.reporting.overview import complete_overview

        complete_overview(folder)


def is_done(folder: Path, composed: DictConfig, config: Config) -> bool:
    """Whether `folder` holds this very run, done; raises UserError if it holds another, or one of other inputs."""
    done = finished(folder, composed)
    refuse_changed_files(folder, config, environment_digests(composed))
    return done


def _say_what_a_single_run_leaves_out(hydra_config: HydraConf) -> None:
    """An experiment that is a sweep runs as one job without -m, which a user may not have meant."""
    given = {text.lstrip("+").partition("=")[0] for text in hydra_config.overrides.task}
    swept = [key for key in hydra_config.sweeper.get("params") or {} if key not in given]
    if swept:
        log.warning("one run only: this experiment goes through several values of %s with -m", ", ".join(swept))


class BeforeHydraWrites(Callback):
    """Checks what Hydra itself goes by, before it writes anything."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        _check_hydra(config.hydra)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        HydraConfig.instance().set_config(copy.deepcopy(config))  # what ${hydra:...} in hydra.sweep.dir is read from
        _check_hydra(config.hydra)


def _check_hydra(config: DictConfig) -> None:
    """Hydra writes its own files into a folder in the run's, and starts launchers, before a job can check anything."""
    with _exit_on_error():
        folder = config.output_subdir
        if folder is not None and (not Path(folder).name or Path(folder).name != folder or folder in {"..", *RunFile}):
            allowed = "null, or the name of a new folder in the run's, as .hydra"
            raise wrong_value("hydra.output_subdir", folder, allowed)
        if config.mode != RunMode.MULTIRUN:
            return
        for key, _, name in (text.partition("=") for text in config.overrides.task):
            if key == "push_to_hub" and "${" not in name and "," not in name:
                allowed = "with -m a name for each job, as 'push_to_hub=USER/${method.name}_${seed}'"
                raise wrong_value(key, name, allowed)
        if config.launcher._target_.endswith(".SlurmLauncher"):
            _check_slurm()


def _check_slurm() -> None:
    if shutil.which("srun") is None:
        cure = "start it where SLURM's commands are, or take hydra/launcher=joblib or submitit_local"
        raise UserError(f"hydra/launcher=submitit_slurm needs SLURM, and there is no srun here: {cure}")


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Hydra turns a callback's exception into a warning and goes on; an exit it lets through."""
    try:
        yield
    except Exception as error:
        if ASKED_FOR_TRACEBACK:
            traceback.print_exc()
        say_error(f"error: {error_line(error)}")
        sys.exit(2)
