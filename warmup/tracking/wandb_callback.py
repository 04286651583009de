"""The Trainer's entries as they go to wandb."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmup.metrics.registry import larger_is_better
from warmup.tracking.wandb_run import STEP


class WandbCallback(TrainerCallback):
    """Hands the Trainer's entries to a wandb run.

    Not transformers' own: that one writes its 120 arguments into the run's config and obeys environment variables.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """All but the Trainer's closing entry, which has no score of its own."""
        entry = logs or {}
        if "train_runtime" not in entry:
            values = {_logged_name(key): value for key, value in entry.items() if key != STEP}
            self.run.log({**values, STEP: state.global_step})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The dev scores of the checkpoint that is kept."""
        chosen = args.metric_for_best_model or ""
        scored = [entry for entry in state.log_history if chosen in entry]
        if scored:
            best_of = max if larger_is_better(chosen.removeprefix("eval_")) else min
            best = best_of(scored, key=lambda entry: entry[chosen])
            scores = {f"best/{name[5:]}": value for name, value in best.items() if name.startswith("eval_")}
            self.run.summary.update({**scores, "best/step": best["step"]})


def _logged_name(key: str) -> str:
    """`eval_bleu` is `dev/bleu`, a gauge keeps its name, all else goes under `train/`."""
    if key.startswith("eval_"):
        return f"dev/{key[5:]}"
    return key if "/" in key else f"train/{key}"
