"""The configurations of some runs side by side: which values differ, and which all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmup.runs.finding import Run


@dataclass(frozen=True)
class ComparedConfigurations:
    """Values by dotted key, as text.

    Attributes:
        names: of the runs that have a config.yaml.
        differing: a value for each of them; None where a run lacks the key.
        shared: the one value that all have.
    """

    names: Sequence[str]
    differing: Mapping[str, Sequence[str | None]]
    shared: Mapping[str, str]


def compare_configurations(runs: Sequence[Run]) -> ComparedConfigurations | None:
    """Compare the runs' config.yaml; None where no run has one."""
    configured = {run.folder: dict(_dotted(run.config)) for run in runs if run.config}
    if not configured:
        return None
    keys = dict.fromkeys(key for settings in configured.values() for key in settings)
    values = {key: [settings.get(key) for settings in configured.values()] for key in keys}
    return ComparedConfigurations(
        [folder.name for folder in configured],
        {key: found for key, found in values.items() if len(set(found)) > 1},
        {key: str(found[0]) for key, found in values.items() if len(set(found)) == 1},
    )


def _dotted(node: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(node, dict) or not node:
        return [(prefix.rstrip("."), "null" if node is None else str(node))]
    return [leaf for key, value in node.items() for leaf in _dotted(value, f"{prefix}{key}.")]
