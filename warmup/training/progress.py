"""What a training knows of its steps beside the Trainer's own state, so that a resumed one has the same curves."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.files import read_json, write_json
from warmup.training.results import LIVE_FILE, LiveProgress

log = logging.getLogger(__name__)
PROGRESS_FILE = "progress.json"
SHOWN_EVERY = 2.0  # seconds


class Stopwatch:
    """Seconds that run, pauses left out."""

    def __init__(self) -> None:
        self.earlier, self.started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def restart(self, earlier: float) -> None:
        """Go on from `earlier` seconds."""
        self.earlier, self.started = earlier, time.monotonic()


@dataclass
class Progress:
    """One process's sums since the last logged step, and what is older.

    Attributes:
        loss: of the steps since the last logged one; each is the mean over the processes.
        gauges: of the batches since then, each with its sum and their number.
        logged: the last logged step.
        logged_loss: of all steps until then.
        seconds: of optimisation, when this was written.
        warned: of a collapse.
        skipped: steps whose loss or gradient was not finite.
        skipped_in_a_row: those of them that end with the last step.
        skipped_since: those of them since the last logged step.
        first_loss, lowest_loss: of a logged step.
        jumped: whether the loss was warned of.
        parts: into how many each batch is cut for want of memory.
    """

    loss: float = 0.0
    gauges: dict[str, list[float]] = field(default_factory=dict)
    logged: int = 0
    logged_loss: float = 0.0
    seconds: float = 0.0
    warned: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    skipped_since: int = 0
    first_loss: float | None = None
    lowest_loss: float | None = None
    jumped: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        self.begin_step()

    def begin_step(self) -> None:
        """Remember what `undo_step` goes back to."""
        self._before = self.loss, {name: list(sums) for name, sums in self.gauges.items()}

    def undo_step(self) -> None:
        """Forget the loss and the gauges of the step that has begun."""
        self.loss, gauges = self._before
        self.gauges = {name: list(sums) for name, sums in gauges.items()}

    def skip_step(self) -> None:
        """Count the step that has begun as one that is not taken."""
        self.undo_step()
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.skipped_since += 1

    def count(self, gauges: dict[str, float]) -> None:
        """Add the gauges of a batch."""
        for name, value in gauges.items():
            total, number = self.gauges.get(name, (0.0, 0))
            self.gauges[name] = [total + value, number + 1]

    def take(self, step: int) -> tuple[float | None, dict[str, float]]:
        """The mean loss of a step and the mean gauges since the last call, over all processes, which all call this.

        The loss is None where every step since was skipped.
        """
        processes = gather_object([(self.loss, dict(self.gauges))])
        loss = sum(part for part, _ in processes) / len(processes)
        names = dict.fromkeys(name for _, gauges in processes for name in gauges)
        found = {name: [gauges[name] for _, gauges in processes if name in gauges] for name in names}
        means = {name: sum(s for s, _ in parts) / sum(n for _, n in parts) for name, parts in found.items()}
        taken = step - self.logged - self.skipped_since
        mean_loss = loss / taken if taken > 0 else None
        self.skipped_since = 0
        self.loss, self.logged, self.logged_loss = 0.0, step, self.logged_loss + loss
        self.gauges.clear()
        return mean_loss, means

    def write(self, checkpoint: Path, main_process: bool) -> None:
        """Every process's progress, into one file; returns when all processes have come as far as this."""
        processes = gather_object([asdict(self)])
        if main_process:
            write_json(checkpoint / PROGRESS_FILE, processes)

    def read(self, checkpoint: Path, processes: int, process: int) -> None:
        """Go on from what this process wrote, or with its share of what another number of processes wrote."""
        written = read_json(checkpoint / PROGRESS_FILE)
        own = written[process] if len(written) == processes else self._shared_out(written, process)
        for name, value in own.items():
            setattr(self, name, value)
        self.begin_step()

    def _shared_out(self, written: list[dict[str, Any]], process: int) -> dict[str, Any]:
        """The mean loss for each, and all gauges for the first: the means over all stay what they are."""
        log.warning("the checkpoint is of %d processes: dropout is drawn otherwise from here on", len(written))
        loss = sum(part["loss"] for part in written) / len(written)
        gauges: dict[str, list[float]] = {}
        for part in written if process == 0 else []:
            for name, sums in part["gauges"].items():
                gauges[name] = [one + other for one, other in zip(gauges.get(name, (0.0, 0)), sums, strict=True)]
        return {**written[0], "loss": loss, "gauges": gauges}


class ShowProgress(TrainerCallback):
    """Writes every few seconds into the run's folder how far the training is, and takes that away at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begun, self.started, self.shown = folder, 0, 0.0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.begun, self.started = state.global_step, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if state.is_world_process_zero and now - self.shown >= SHOWN_EVERY:
            self.shown = now
            LiveProgress(state.global_step, state.max_steps, self.begun, now - self.started).write(self.folder)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            (self.folder / LIVE_FILE).unlink(missing_ok=True)
