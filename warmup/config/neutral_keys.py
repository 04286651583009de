"""What of a configuration changes no score: the one list, with the reason for each key.

Tables take two runs for repeats or seeds of one experiment only if they agree in everything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# A key, or all keys below it. The same score on another device, or in other batches, means: up to rounding.
NEUTRAL_KEYS = {
    "hydra": "where a run is written and how the jobs of a multirun are started",
    "logger": "where curves are sent besides the run's own folder",
    "run": "how far the command goes; what kind of run it was is in its record",
    "push_to_hub": "where the model is sent when all is done",
    "runs": "the folders that run=tables reads",
    "inputs": "read by run=predict, which has no scores",
    "predictions": "read by run=score, whose answers may come from anything: it stands in no table",
    "references": "as predictions",
    "sources": "as predictions",
    "device": "which processor computes; what trainer.precision=auto became on it is compared",
    "evaluation.batch_size": "how many inputs are decoded at a time",
    "evaluation.substituted_examples": "how many examples are answered again given other warmups, beside the scores",
    "trainer.logging_steps": "how often the history is written",
    "trainer.keep_checkpoints": "how many checkpoints stay on the disk; the best one always does",
    "trainer.profile_steps": "which steps the profiler follows",
    "trainer.arguments.torch_empty_cache_steps": "when memory is handed back",
    **{
        f"trainer.arguments.{name}": "how batches get from where they are made to where they are computed"
        for name in (
            *(f"dataloader_{part}" for part in ("num_workers", "prefetch_factor", "persistent_workers", "pin_memory")),
            *(f"ddp_{part}" for part in ("backend", "bucket_cap_mb", "broadcast_buffers")),
            *(f"ddp_{part}" for part in ("find_unused_parameters", "timeout")),
        )
    },
}
# A begun folder goes on with another value of these. The others write other files, so they need another folder.
RESUMABLE_KEYS = ("logger", "runs", "push_to_hub")
ONE_STAGE = {"train": "all"}  # run=all goes on with what run=train left
# In no table, and still what a command is about: they name its folder.
ABOUT = ("run", "inputs", "predictions", "references", "sources")
# Columns of the record itself, and the groups that overrides choose: what they choose is compared key by key.
RECORDED_KEYS = {"task", "data", "model", "method", "seed", "checkpoint", "method.name", "model.name"}


def is_neutral(key: str) -> bool:
    """Whether a dotted key changes no score."""
    return any(key == neutral or key.startswith(f"{neutral}.") for neutral in NEUTRAL_KEYS)


def tells_runs_apart(key: str) -> bool:
    """Whether runs with another value of a dotted key are another experiment, beyond what records have a column for."""
    return key not in RECORDED_KEYS and not is_neutral(key)


def free_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """The overrides that tell a run from others, beside those that tables have columns for."""
    pairs = (text.lstrip("+~").partition("=")[::2] for text in overrides)
    return {key: value for key, value in pairs if tells_runs_apart(key)}


def set_values(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each key that is set.

    One that is null is as good as not there: a key that a later version of this program brought makes no other run.
    """
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from set_values(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def first_difference(before: Mapping[Any, Any], now: Mapping[Any, Any]) -> str | None:
    """The first key by which a run folder's configuration is not the one given; None if it goes on."""
    had, has = (dict(_of_the_folder(config)) for config in (before, now))
    return next((key for key in sorted({*had, *has}) if had.get(key) != has.get(key)), None)


def _of_the_folder(config: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in set_values(config):
        if key.split(".")[0] not in RESUMABLE_KEYS:
            yield key, _stage(key, value)


def _stage(key: str, value: Any) -> Any:
    return ONE_STAGE.get(str(value), value) if key == "run" else value


def digest_of_numbers(config: Mapping[Any, Any]) -> str:
    """Eight digits that stand for all of a resolved configuration that changes what a run finds."""
    counted = [
        (key, repr(_stage(key, value))) for key, value in set_values(config) if key in ABOUT or not is_neutral(key)
    ]
    return hashlib.sha256(json.dumps(sorted(counted)).encode()).hexdigest()[:8]
