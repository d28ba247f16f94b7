"""A configuration as people write it: a YAML file, a shipped example, overrides on the command line."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retinanet.config.parsing import config_from_dict, config_to_dict
from retinanet.config.presets import PRESETS
from retinanet.config.schema import Config
from retinanet.errors import ConfigError
from retinanet.io.safe_yaml import load_yaml, read_mapping


def load_config(path: str | Path, overrides: Sequence[str] = (), preset: str | None = None) -> Config:
    """Read a YAML file and apply `key.path=value` overrides.

    preset: a name of PRESETS, in place of the file's own `preset`; the file's other keys go before it.

    A relative `data.root` or `train.init` in the file counts from the file's folder; in an override, and in a shipped
    example, from the working folder. A name that is no file here is looked up among the shipped examples.

    Raises: ConfigError, naming the key and the nearest known one.
    """
    file, shipped = _find(Path(path))
    values = read_mapping(file, "data, model, train, ...")
    folder = Path() if shipped else file.parent
    data, train = values.get("data"), values.get("train")
    if isinstance(data, dict) and isinstance(data.get("root", "."), str):
        data["root"] = str(folder / data.get("root", "."))
    if isinstance(train, dict) and isinstance(train.get("init"), str):
        train["init"] = str(folder / train["init"])
    named = values.pop("preset", None)
    if preset is not None or named is not None:
        values = _over_preset(values, preset or str(named), "--preset" if preset else f"{path}: preset")
    for text in overrides:
        _override(values, text)
    return _located(config_from_dict(_with_checkpoint(values), str(path)))


def override(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with `key.path=value` overrides applied. Raises: ConfigError."""
    values = config_to_dict(config)
    for text in overrides:
        _override(values, text)
    return _located(config_from_dict(values, "--set"))


def shipped_examples() -> dict[str, Path]:
    """File name -> path of each example configuration that came with the installation."""
    here = Path(__file__).parent
    for folder in (here / "examples", here.parent / "examples"):
        if folder.is_dir():
            return {path.name: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def _find(path: Path) -> tuple[Path, bool]:
    """The file and whether it is a shipped example."""
    if path.is_file():
        return path, False
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, expected a YAML file")
    shipped = shipped_examples()
    if path.name in shipped and path.parent == Path():
        return shipped[path.name], True
    hint = ", ".join(shipped)
    raise ConfigError(f"{path}: no such file here or among the shipped examples ({hint})")


def _over_preset(values: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise ConfigError(f"{source}: there is no {name!r}; expected {', '.join(PRESETS)}")
    merged = dict(values)
    for section, preset in PRESETS[name].items():
        said = values.get(section, {})
        said = _from_word(section, said) if isinstance(said, str) else said
        if isinstance(said, dict):  # else it is refused as what it is
            merged[section] = preset | said
    return merged


def _with_checkpoint(values: dict[str, Any]) -> dict[str, Any]:
    """Fine-tuning: what the file does not say of the model and its anchors comes from the checkpoint."""
    train = values.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("init"), str):
        return values
    from retinanet.checkpoints.checkpoint import read_checked_metadata

    origin = config_to_dict(read_checked_metadata(train["init"]).config)
    merged = dict(values)
    for section in ("model", "anchors"):
        said = values.get(section, {})
        if isinstance(said, dict):
            merged[section] = origin[section] | said
    return merged


def _override(values: dict[str, Any], assignment: str) -> None:
    keys, equals, text = assignment.partition("=")
    if not equals or not keys:
        raise ConfigError(f"--set {assignment}: expected key.path=value, such as train.lr=0.005")
    try:
        value = load_yaml(text)
    except ValueError:
        value = text
    *sections, last = keys.split(".")
    for section in sections:
        inner = values.get(section)
        # a copy: a YAML alias may be the same mapping in two places
        values[section] = dict(inner) if isinstance(inner, dict) else _from_word(section, inner)
        values = values[section]
    values[last] = value


def _from_word(section: str, value: Any) -> dict[str, Any]:
    """The mapping that a section's short form stands for."""
    if isinstance(value, str):
        return {"embedded": value} if section == "data" else {"name": value}
    return {}


def _located(config: Config) -> Config:
    """With an absolute `data.root`, so that a checkpoint finds its data from any folder."""
    return replace(config, data=replace(config.data, root=os.path.abspath(config.data.root)))
