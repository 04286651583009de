"""Hydra's own errors, in one line each: which override it was, what is allowed, the nearest right spelling."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from warmup.config.fields import range_in_words
from warmup.config.further_arguments import KEY as ARGUMENTS
from warmup.config.further_arguments import REFUSED
from warmup.config.groups import CONF, config_groups
from warmup.errors import UserError, nearest, wrong_value

TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def explain_composition(
    arguments: Sequence[str], multirun: bool, error: Exception, config_dir: str | None = None
) -> UserError:
    """The first wrong one of the command line's overrides; Hydra's own words when it is none of them.

    `config_dir`: the user's own choices, as `--config-dir` names them.
    """
    try:
        overrides = [single for text in arguments for single in _single_overrides(text, multirun)]
        own = _own_folders(overrides, config_dir)
        groups = config_groups(own)
        for override in overrides:
            if override.key_or_group in groups:
                _check_choice(override, groups)
        choices = [o.input_line or "" for o in overrides if o.key_or_group in groups and not o.is_delete()]
        base = _compose([f"hydra.searchpath={[f'file://{folder}' for folder in own]}", *choices])
        for override in overrides:
            if override.key_or_group not in groups and not override.key_or_group.startswith("hydra"):
                _check_override(override, base, groups)
    except UserError as explained:
        return explained
    except Exception:  # whatever else is wrong, Hydra's message is better than a failure to explain it
        pass
    if isinstance(error, RecursionError) or "Recursive interpolation" in str(error):
        referring = [text for text in arguments if "${" in text]
        return UserError(
            f"a value refers to itself by way of ${{...}}: {', '.join(referring) or 'see the files of conf'}"
        )
    words = [str(error), str(error.__cause__ or "")]
    return UserError(" ".join(part for part in words if part))


def _own_folders(overrides: Sequence[Override], config_dir: str | None) -> list[Path]:
    """Where Hydra looks for choices besides `conf`: `--config-dir`, and the folders of `hydra.searchpath`."""
    values = [override.value() for override in overrides if override.key_or_group == "hydra.searchpath"]
    given = [str(text) for value in values if isinstance(value, list) for text in value]
    folders = [*([config_dir] if config_dir else []), *given]
    return [Path(text.removeprefix("file://")).resolve() for text in folders if not text.startswith("pkg://")]


def _single_overrides(text: str, multirun: bool) -> Iterator[Override]:
    """An override as typed, or each value of a sweep `a,b,c` on its own."""
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(text)
    except HydraException as error:
        raise UserError(
            f"cannot read {text!r}: write key=value, and quote a value with spaces, commas, braces or colons, "
            """as 'key="a, b"'"""
        ) from error
    if not override.is_sweep_override():
        yield override
        return
    if not multirun:
        key, values = override.key_or_group, text.partition("=")[2]
        raise UserError(
            f"{key} is {values!r}, several values: add -m to run each of them, or write a list as {key}=[a,b]"
        )
    for value in override.sweep_string_iterator():
        yield parser.parse_override(f"{override.key_or_group}={value}")


def _check_choice(override: Override, groups: dict[str, list[str]]) -> None:
    group, value = override.key_or_group, override.value()
    choices = groups[group]
    if override.is_delete():
        return
    # several of any other group would set the same keys
    for one in value if isinstance(value, list) and group == "logger" else [value]:
        if one not in choices:
            raise wrong_value(group, one, ", ".join(choices), nearest(one, choices))
    if override.is_add():
        raise UserError(f"{override.input_line!r}: every group is there already; write {group}={value}, without the +")


def _compose(overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides)


def _check_override(override: Override, base: DictConfig, groups: dict[str, list[str]]) -> None:
    key, value = override.key_or_group, override.value()
    known = list(_keys(base))
    if isinstance(value, dict) and key in known and OmegaConf.is_dict(OmegaConf.select(base, key)):
        for name, inner in value.items():  # a section given as a mapping: each of its keys
            _check_override(replace(override, key_or_group=f"{key}.{name}", _value=inner), base, groups)
        return
    if key not in known:
        if key.startswith(f"{ARGUMENTS}.") and (reason := REFUSED.get(key.rpartition(".")[2])):
            raise UserError(f"{key} is not passed on: {reason}")
        parent, _, name = key.rpartition(".")
        if parent in known and parent.endswith("fields"):
            raise UserError(f"{key}: write the whole mapping, as '{parent}={{{name}: COLUMN}}'")
        beside = [other for other in known if other.rpartition(".")[0] == parent] if parent else []
        top_level = dict.fromkeys([*groups, *(name for name in known if "." not in name)])
        allowed = ", ".join([other.rpartition(".")[2] for other in beside] or top_level)
        near = _choice_with_key(key, groups) or _nearest_key(key, beside, [*known, *groups])
        raise UserError(f"there is no key {key!r} (it was given as {override.input_line!r}); allowed: {allowed}{near}")
    if override.is_delete():
        raise UserError(f"{override.input_line!r}: a key of the configuration cannot be deleted, only set")
    try:
        OmegaConf.update(base, key, value)
    except (OmegaConfBaseException, ValueError) as error:
        raise wrong_value(key, value, _allowed_in_words(key, base)) from error


def _choice_with_key(key: str, groups: dict[str, list[str]]) -> str:
    """`"; it belongs to method=warmup"` for a key that other choices of its group have, or the empty string."""
    group = key.partition(".")[0]
    if group in ("data", "method"):
        owners = [choice for choice in groups[group] if key in _keys(_compose([f"{group}={choice}"]))]
        if owners:
            return "; it belongs to " + " or ".join(f"{group}={owner}" for owner in owners)
    return ""


def _nearest_key(key: str, beside: list[str], known: list[str]) -> str:
    """The nearest of the keys beside it; else one of the same name elsewhere; else the nearest of all."""
    name = key.rpartition(".")[2]
    if nearest(name, [other.rpartition(".")[2] for other in beside]):
        return nearest(key, beside)
    elsewhere = [other for other in known if other.rpartition(".")[2] == name]
    return nearest(key, elsewhere) or ("" if beside else nearest(key, known))


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
        return
    for name in map(str, node):
        yield f"{prefix}{name}"
        yield from _keys(node._get_node(name), f"{prefix}{name}.")


def _allowed_in_words(key: str, base: DictConfig) -> str:
    parent, _, name = key.rpartition(".")
    owner = OmegaConf.get_type(OmegaConf.select(base, parent) if parent else base)
    if not dataclasses.is_dataclass(owner):
        return "a plain value"
    field = next(field for field in dataclasses.fields(owner) if field.name == name)
    kind = typing.get_type_hints(owner)[name]
    inside = range_in_words(field)
    return f"{_type_in_words(kind)}{', ' + inside if inside else ''}"


def _type_in_words(kind: Any) -> str:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " or ".join("null" if part is type(None) else _type_in_words(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return "a list, as [a,b]"
    if typing.get_origin(kind) is dict or dataclasses.is_dataclass(kind):
        return "a mapping, as {key: value}"
    return TYPE_WORDS.get(kind, "a plain value")
