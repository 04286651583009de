"""What `${oc.env:NAME}` gave is used; wherever it would be written down, the interpolation is written instead."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from warmup.config.neutral_keys import tells_runs_apart
from warmup.display import hide
from warmup.errors import wrong_value

# Texts that a model is saved with, and needs to answer again: they cannot be written as anything else.
SAVED_WITH_MODEL = (
    "task.source_template",
    "task.target_template",
    "task.source_language",
    "task.target_language",
    "task.options",
    "model.separator",
    "model.after_source",
)
_READS = [0]  # of the environment so far, by which it is told whether a value came from there


def register_environment() -> None:
    """Have OmegaConf's own resolver tell what it gave."""
    OmegaConf.register_new_resolver("oc.env", _from_environment, replace=True)


def _from_environment(name: str, *default: Any) -> Any:
    value = oc.env(name, *default)
    _READS[0] += 1
    if isinstance(value, str) and not (default and value == default[0]):
        hide(value, f"${{oc.env:{name}}}")
    return value


def described(composed: DictConfig) -> dict[str, Any]:
    """The resolved configuration, nested, with interpolations where the environment gave a value.

    But for `run`, which says what a folder holds: all its values stand in the documentation.
    """
    found = {str(key): _written_value(composed, key) for key in composed}
    return {**found, **({"run": composed.run} if "run" in composed else {})}


def _written_value(parent: Container, key: Any) -> Any:
    node: Any = parent._get_node(key)
    reads = _READS[0]
    value = parent[key]
    if _READS[0] > reads:
        return str(node._value())
    if isinstance(value, DictConfig):
        return {str(inner): _written_value(value, inner) for inner in value}
    if isinstance(value, ListConfig):
        return [_written_value(value, place) for place in range(len(value))]
    return value


def environment_values(composed: DictConfig) -> dict[str, tuple[str, str]]:
    """Dotted key -> how it is written and what it is, for every key that the environment had a part in."""
    written = {key: text for key, text in _leaves(described(composed)) if isinstance(text, str) and "${" in text}
    pairs = {key: (text, str(OmegaConf.select(composed, key))) for key, text in written.items()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def environment_digests(composed: DictConfig) -> dict[str, str]:
    """Dotted key -> digest of what the environment gave, for keys by which runs differ: no file has the value."""
    return {
        key: hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
        for key, (_, value) in environment_values(composed).items()
        if tells_runs_apart(key)
    }


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _leaves(value, f"{prefix}[{place}]")
    else:
        yield prefix, node


def check_environment(composed: DictConfig) -> None:
    """See that nothing is taken from the environment that cannot be written as an interpolation.

    Raises:
        UserError: naming the key.
    """
    for key, (written, _) in environment_values(composed).items():
        if key.startswith(SAVED_WITH_MODEL):
            raise wrong_value(key, written, "a text without ${oc.env:...}, since it is saved with the model")
        if key in ("logger.project", "logger.entity") and (composed.logger.wandb or composed.logger.mlflow):
            raise wrong_value(key, written, "a name without ${oc.env:...}, since trackers show it")
        if key == "model.pretrained" and composed.model.lora.rank:
            raise wrong_value(key, written, "a name without ${oc.env:...}, since adapters say what they belong to")
