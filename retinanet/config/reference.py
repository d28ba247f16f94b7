"""The reference of a config's keys, docs/config.md, made from the schema."""

import ast
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal

from retinanet.config.presets import PRESETS
from retinanet.config.schema import Config

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", types.NoneType: "null"}


@dataclass(frozen=True)
class Key:
    """One key of a config. name: such as train.lr. kind: its type or choices. bounds: "" for none."""

    name: str
    kind: str
    default: str
    bounds: str
    description: str


def config_keys(section: Any = Config, path: str = "") -> Iterator[Key]:
    """Every key of `section` and of the sections inside it. path: of `section`, such as "train.augment."."""
    hints, annotated = typing.get_type_hints(section), typing.get_type_hints(section, include_extras=True)
    descriptions = _descriptions(section)
    for item in fields(section):
        kind = hints[item.name]
        inner = next((part for part in (kind, *typing.get_args(kind)) if is_dataclass(part)), None)
        default = "{}" if inner is kind else _yaml(item.default)
        bounds = "; ".join(bound.text for bound in getattr(annotated[item.name], "__metadata__", ()))
        description = descriptions.get(item.name) or inspect.getdoc(inner) or ""
        yield Key(path + item.name, _kind(kind), default, bounds, description)
        if inner:
            yield from config_keys(inner, f"{path}{item.name}.")


def config_reference() -> str:
    """The text of docs/config.md: a table for each section, then the presets."""
    text = "# Configuration\n\nThe keys of a YAML file. Every key except the data set is optional.\n"
    for section, kind in typing.get_type_hints(Config).items():
        text += f"\n## {section}\n\n{inspect.getdoc(kind)}\n\n"
        text += "| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n"
        for key in config_keys(kind, f"{section}."):
            text += f"| `{key.name}` | {key.kind} | `{key.default}` | {key.bounds} | {key.description} |\n"
    text += "\n## preset\n\n`preset: NAME` stands for settings of another project. Keys in the file replace them.\n\n"
    text += "| preset | settings |\n|---|---|\n"
    for name, preset in PRESETS.items():
        settings = [
            f"`{section}.{key}: {_yaml(value)}`" for section in preset for key, value in preset[section].items()
        ]
        text += f"| `{name}` | {', '.join(settings)} |\n"
    return text


def _descriptions(section: Any) -> dict[str, str]:
    """The text below each field of the dataclass `section`."""
    tree = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {
        before.target.id: str(text.value.value)
        for before, text in pairwise(tree.body)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _kind(annotation: Any) -> str:
    """A type in words."""
    if is_dataclass(annotation):
        return "mapping"
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return f"one of {', '.join(f'`{choice}`' for choice in parts)}"
    if typing.get_origin(annotation) is tuple:
        return f"list of {_kind(parts[0])}s"
    return KINDS.get(annotation) or " or ".join(_kind(part) for part in parts)


def _yaml(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}"  # 2 ** (1 / 3) as 1.26
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
