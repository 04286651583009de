"""The Trainer's entries as they go to wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.metrics.registry import larger_is_better
from warmup.tracking.wandb_run import STEP, best_effort


class WandbCallback(TrainerCallback):
    """Hands the Trainer's entries to a wandb run; one that was resumed hands the earlier ones on again.

    Not transformers' own: that one writes its 120 arguments into the run's config and obeys environment variables.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for entry in state.log_history:
            self._log(entry, entry["step"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._log(logs or {}, state.global_step)

    @best_effort
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The dev scores of the checkpoint that is kept."""
        chosen = args.metric_for_best_model or ""
        scored = [entry for entry in state.log_history if chosen in entry]
        if scored:
            best_of = max if larger_is_better(chosen.removeprefix("eval_")) else min
            best = best_of(scored, key=lambda entry: entry[chosen])
            scores = {f"best/{name[5:]}": value for name, value in best.items() if name.startswith("eval_")}
            self.run.summary.update({**scores, "best/step": best["step"]})

    @best_effort
    def _log(self, entry: Mapping[str, float], step: int) -> None:
        if "train_runtime" not in entry:  # the Trainer's closing entry, which has no score of its own
            values = {_logged_name(key): value for key, value in entry.items() if key not in ("epoch", STEP)}
            self.run.log({**values, STEP: step})


def _logged_name(key: str) -> str:
    """`eval_bleu` is `dev/bleu`, a gauge keeps its name, all else goes under `train/`."""
    if key.startswith("eval_"):
        return f"dev/{key[5:]}"
    return key if "/" in key else f"train/{key}"
