"""A `Config` from the plain values of YAML or JSON, and the reverse."""

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal

from retinanet.config.schema import Config, DataConfig, SplitConfig
from retinanet.config.validation import check_section
from retinanet.errors import ConfigError
from retinanet.messages import did_you_mean, kind_of, shortened


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """The inverse of `config_to_dict`. source: the file, for messages. Raises: ConfigError."""
    return _build(Config, values, source, "")


def config_to_dict(config: Config) -> dict[str, Any]:
    """`config` as dicts, lists, text and numbers, for YAML and JSON."""
    return _plain(asdict(config))


def _build(kind: Any, values: Any, source: str, path: str) -> Any:
    """`values` as the dataclass `kind`, checked. path: of the section, such as train.augment; "" for the whole."""
    if kind is DataConfig and isinstance(values, str):
        values = {"embedded": values}
    if kind is SplitConfig and isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {path or 'the file'} is {kind_of(values)}, expected a mapping")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    built = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in known:
            where, key = where[:100], str(key)[:100]
            hint = did_you_mean(key, known) or f"expected one of {', '.join(known)}"
            raise ConfigError(f"{source}: unknown key {where}; {hint}")
        built[key] = _coerce(hints[key], value, source, where)
    config = kind(**built)
    check_section(config, source, path)
    return config


def _coerce(kind: Any, value: Any, source: str, path: str) -> Any:
    """`value` as the type `kind`. Numbers are read from text too, since PyYAML reads 1e-4 as text."""
    if is_dataclass(kind):
        return _build(kind, value, source, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        lists = [kind for kind in arguments if typing.get_origin(kind) is tuple]
        return _coerce(lists[0] if lists and isinstance(value, (list, tuple)) else arguments[0], value, source, path)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        hints = [f"expected one of {', '.join(arguments)}", did_you_mean(str(value)[:100], arguments)]
        raise ConfigError(f"{source}: {path} is {shortened(value)}, {'; '.join(filter(None, hints))}")
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_coerce(arguments[0], item, source, f"{path}[{i}]") for i, item in enumerate(value))
        raise ConfigError(f"{source}: {path} is {kind_of(value)} {shortened(value)}, expected a list")
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if kind is int and type(value) is int:
        return value
    if kind in (int, float) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if number - number == 0 and (kind is float or number == int(number)):
            return kind(number)
    expected = {bool: "true or false", str: "text", int: "a whole number", float: "a finite number"}[kind]
    raise ConfigError(f"{source}: {path} is {shortened(value)}, expected {expected}")


def changes(before: Config, now: Config) -> dict[str, str]:
    """The keys that differ, each with a sentence: {"train.lr": "train.lr was 0.01, is 0.02"}."""
    old, new = _flat(config_to_dict(before)), _flat(config_to_dict(now))
    return {key: f"{key} was {old[key]}, is {new[key]}" for key in new if old[key] != new[key]}


def _plain(value: Any) -> Any:
    """`value` with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
