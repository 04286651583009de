"""Between the shell and the stages: preparation, one job, one line per error, sweeps checked before they start."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
from hydra import compose
from hydra._internal.utils import get_args_parser  # no public way tells options from overrides as Hydra does
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from warmup.config.checks import check
from warmup.config.environment import environment_digests, register_environment
from warmup.config.explain import explain_composition
from warmup.config.facts import Facts
from warmup.config.schema import Config, LoggerConfig, register
from warmup.display import say, say_error, without_secrets
from warmup.errors import UserError, one_line, wrong_value
from warmup.metrics.registry import METRICS
from warmup.runs.file_names import RunFile, last_file
from warmup.runs.folder import finished, remove_if_nothing_was_done
from warmup.runs.inputs import refuse_changed_files
from warmup.runs.records import Failure
from warmup.training.interruption import INTERRUPTION, Interrupted
from warmup.training.processes import is_main_process, leave_process_group

log = logging.getLogger(__name__)
FACTS = Facts(METRICS)
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
    flags = [word for word in sys.argv[1:] if word in ("-m", "--multirun")]
    sys.argv[1:] = [*flags[:1], *(word for word in sys.argv[1:] if word not in flags)]  # Hydra takes -m only in front
    OmegaConf.register_new_resolver("start_time", _start_time, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its warning at every fork says nothing to a user
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|transformers|hydra")


def _start_time() -> str:
    """Processes that torchrun or accelerate started share their launcher's start time, so they share a run folder."""
    launched = "WORLD_SIZE" in os.environ
    moment = datetime.fromtimestamp(psutil.Process(os.getppid()).create_time()) if launched else datetime.now()
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


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line on standard error and a status that is not 0; with HYDRA_FULL_ERROR=1, with the traceback."""
    os.environ[FULL_ERROR] = "1"  # Hydra then hands its exceptions on instead of printing them
    try:
        INTERRUPTION.listen()
        _check_options()
        yield
    except KeyboardInterrupt as stop:
        if is_main_process():
            say_error(INTERRUPTION.line(stop))
        sys.exit(stop.status if isinstance(stop, Interrupted) else 130)
    except Exception as error:
        if ASKED_FOR_TRACEBACK:
            raise
        say_error(f"error: {error_line(error)}")
        sys.exit(2)
    finally:
        if not ASKED_FOR_TRACEBACK:
            os.environ.pop(FULL_ERROR, None)


def error_line(error: Exception) -> str:
    """One line about any exception."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"cannot read or write {error.filename}: {error.strerror}"
    if isinstance(error, (HydraException, OmegaConfBaseException, RecursionError)) or not HydraConfig.initialized():
        typed, _ = get_args_parser().parse_known_args()
        return str(explain_composition(typed.overrides, typed.multirun, error))
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
    """One run. In a multirun its failure is written down, and the others go on."""
    register_environment()  # in joblib's processes nobody has yet
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    multirun = hydra_config.mode == RunMode.MULTIRUN
    INTERRUPTION.listen()  # a launcher may have begun this job in a process of its own
    shared = f"hydra.sweep.dir={os.path.relpath(hydra_config.sweep.dir)}"
    INTERRUPTION.folder = shared if multirun else f"hydra.run.dir={os.path.relpath(folder)}"
    log_file = folder / RunFile.LOG
    log_is_new = log_file.is_file() and not log_file.stat().st_size
    resumed = (folder / RunFile.CONFIG).exists()
    ours = False
    try:
        config = check(composed, FACTS)
        done = config.run != "tables" and _is_done(folder, composed, config)
        ours = True
        if done:
            _say_that_it_is_done(folder, config, multirun)
        else:
            _begin(config, composed, hydra_config)
    except Exception as error:
        line = error_line(error)
        if ours:
            log.debug("where it failed", exc_info=error)
        elif log_is_new:
            log_file.unlink()
        if multirun:
            Failure(line).write(folder)
            say_error(f"error: {folder.name}: {line}")
            return
        if is_main_process() and folder.is_dir():
            removed = not resumed and remove_if_nothing_was_done(folder)
            if ours and not removed and config.run != "tables":  # which has no results of its own to lose
                Failure(line).write(folder)
        with one_line_errors():
            raise


def _begin(config: Config, composed: DictConfig, hydra_config: HydraConf) -> None:
    """Hand the job to its stage, with what Hydra knows of it."""
    multirun = hydra_config.mode == RunMode.MULTIRUN
    if not multirun:
        _say_what_a_single_run_leaves_out(hydra_config)
    from warmup.run import Job, run_stage  # here, so that --help need not wait for torch

    atexit.register(leave_process_group)
    folder, overrides = Path(hydra_config.runtime.output_dir), list(hydra_config.overrides.task)
    run_stage(Job(config, composed, folder, overrides, Path(hydra_config.sweep.dir) if multirun else None))


def _say_that_it_is_done(folder: Path, config: Config, multirun: bool) -> None:
    """And make what its tables lack: a run may have ended before them."""
    log.info("%s is finished already; its results are in %s", folder, last_file(config.run))
    if not multirun and config.run in ("all", "evaluate") and is_main_process():
        from warmup.reporting.overview import complete_overview

        complete_overview(folder)


def _is_done(folder: Path, composed: DictConfig, config: Config) -> bool:
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


class Sweep(Callback):
    """Checks every job of a multirun before the first one starts, and ends the multirun with its table."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        """Before Hydra writes anything."""
        with _exit_on_error():
            _check_hydra(config.hydra)

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        with _exit_on_error():
            _check_hydra(config.hydra)
            _check_launcher(config.hydra.launcher)
            if any(text.startswith("hydra.run.dir=") for text in config.hydra.overrides.hydra):
                raise UserError("hydra.run.dir is of a single run; the folder of a multirun is hydra.sweep.dir=FOLDER")
            INTERRUPTION.folder = f"hydra.sweep.dir={os.path.relpath(config.hydra.sweep.dir)}"
            jobs = self._jobs(config)
            for job in jobs:
                check(compose("config", job), FACTS)
            composed = [self._compose([*config.hydra.overrides.hydra, *job], n) for n, job in enumerate(jobs)]
            self._refuse_jobs_alike(jobs, composed)
            for folder, composed_job in composed:
                _is_done(folder, composed_job, check(composed_job, FACTS))

    def _compose(self, job: list[str], number: int) -> tuple[Path, DictConfig]:
        """The folder and the configuration of a job."""
        composed = compose("config", job, return_hydra_config=True)
        with open_dict(composed):
            composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)  # what ${hydra:job.num} is read from
            folder = Path(composed.hydra.sweep.dir, composed.hydra.sweep.subdir)
            del composed["hydra"]
        return folder, composed

    def _refuse_jobs_alike(self, jobs: list[list[str]], composed: list[tuple[Path, DictConfig]]) -> None:
        """Raises UserError if two jobs would write into one folder, where one run would be lost, or are the same."""
        seen: dict[str, int] = {}
        for number, (folder, job) in enumerate(composed):
            unique = {
                os.path.abspath(folder): f"would both write into {folder}: put ${{hydra:job.num}} or what differs "
                "between them into hydra.sweep.subdir",
                OmegaConf.to_yaml(job, resolve=True): "are the same run twice: give each value once",
            }
            for key, trouble in unique.items():
                first = seen.setdefault(key, number)
                if first != number:
                    swept = [[word for word in job if any(word not in other for other in jobs)] for job in jobs]
                    names = " and ".join(f"{n} ({' '.join(swept[n] or jobs[n])})" for n in (first, number))
                    raise UserError(f"jobs {names} {trouble}")

    def _jobs(self, config: DictConfig) -> list[list[str]]:
        """The overrides of each job; none for a sweeper that picks its values as it goes."""
        sweeper = config.hydra.sweeper
        if not sweeper._target_.endswith("BasicSweeper"):
            return []
        swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*swept, *config.hydra.overrides.task])
        sweeper_class: Any = get_class(sweeper._target_)
        jobs = [job for batch in sweeper_class.split_arguments(overrides, None) for job in batch]
        if not jobs:
            empty = [str(o.input_line) for o in overrides if not list(o.sweep_string_iterator())]
            raise UserError(f"{', '.join(empty)} has no value, so that there is no job; range(1,4) is 1, 2 and 3")
        return jobs

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        from warmup.run import compare

        folder = Path(config.hydra.sweep.dir)
        with _exit_on_error():
            logger = OmegaConf.to_object(config.logger)
            assert isinstance(logger, LoggerConfig)
            failed = compare([folder], folder, logger)
        say(NEXT_STEPS.format(folder=folder))
        if failed:
            sys.exit(1)


def _check_hydra(config: DictConfig) -> None:
    """Hydra writes its own files into a folder in the run's, before a job can check anything."""
    folder = config.output_subdir
    if folder is not None and (not Path(folder).name or Path(folder).name != folder or folder in {"..", *RunFile}):
        raise wrong_value("hydra.output_subdir", folder, "null, or the name of a new folder in the run's, as .hydra")


def _check_launcher(config: DictConfig) -> None:
    if config._target_.endswith(".SlurmLauncher") and shutil.which("srun") is None:
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
