"""A `Config` from the plain values of YAML or JSON, and the reverse."""

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

from retinanet.config.schema import Config, DataConfig, SplitConfig
from retinanet.config.validation import check_section
from retinanet.errors import ConfigError
from retinanet.messages import did_you_mean, kind_of, shortened


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """The inverse of `config_to_dict`. source: the file, for messages. Raises: ConfigError."""
    try:
        return _build(Config, values, "")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def config_to_dict(config: Config) -> dict[str, Any]:
    """`config` as dicts, lists, text and numbers, for YAML and JSON."""
    return json.loads(json.dumps(asdict(config)))  # tuples become lists


def _build(kind: Any, values: Any, path: str) -> Any:
    """`values` as the dataclass `kind`, checked. path: of the section, such as train.augment; "" for the whole."""
    if isinstance(values, str) and kind in (DataConfig, SplitConfig):
        values = {"embedded" if kind is DataConfig else "name": values}
    if isinstance(values, (int, float)) and not isinstance(values, bool) and kind is SplitConfig:
        values = {"fraction": values}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'the file'} is {kind_of(values)}, expected a mapping")
    hints = typing.get_type_hints(kind)
    built = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            hint = did_you_mean(str(key)[:100], list(hints)) or f"expected one of {', '.join(hints)}"
            raise ConfigError(f"unknown key {where[:100]}; {hint}")
        built[key] = _coerce(hints[key], value, where)
    config = kind(**built)
    check_section(config, path)
    return config


def _coerce(kind: Any, value: Any, path: str) -> Any:
    """`value` as the type `kind`. Numbers are read from text too, since PyYAML reads 1e-4 as text."""
    if is_dataclass(kind):
        return _build(kind, value, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        lists = [kind for kind in arguments if typing.get_origin(kind) is tuple]
        return _coerce(lists[0] if lists and isinstance(value, (list, tuple)) else arguments[0], value, path)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        hints = [f"expected one of {', '.join(arguments)}", did_you_mean(str(value)[:100], arguments)]
        raise ConfigError(f"{path} is {shortened(value)}, {'; '.join(filter(None, hints))}")
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_coerce(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
        raise ConfigError(f"{path} is {kind_of(value)} {shortened(value)}, expected a list")
    if kind in (bool, int) and type(value) is kind:
        return value
    if kind is not bool and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        if kind is str:
            return str(value)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and (kind is float or number == int(number)):
            return kind(number)
    expected = {bool: "true or false", str: "text", int: "a whole number", float: "a finite number"}[kind]
    raise ConfigError(f"{path} is {shortened(value)}, expected {expected}")


def changes(before: Config, now: Config) -> dict[str, str]:
    """The keys that differ, each with a sentence: {"train.lr": "train.lr was 0.01, is 0.02"}."""
    old, new = _flat(config_to_dict(before)), _flat(config_to_dict(now))
    keys = dict.fromkeys([*new, *old])  # a section such as data.val may be null in one of them
    return {key: f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys if old.get(key) != new.get(key)}


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
