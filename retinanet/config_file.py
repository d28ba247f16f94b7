"""Configs as users write them: a YAML file or a shipped example, a preset, and overrides."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retinanet.config.parsing import config_from_dict, config_to_dict
from retinanet.config.presets import PRESETS
from retinanet.config.schema import Config
from retinanet.errors import ConfigError
from retinanet.io.file_kinds import similar_file
from retinanet.io.safe_yaml import load_yaml, read_mapping


def load_config(path: str | Path, overrides: Sequence[str] = (), preset: str | None = None) -> Config:
    """The config in a YAML file, over a preset and under `key.path=value` overrides.

    A data.yaml of Ultralytics stands for the data set that it describes, with the defaults of all other keys.
    A relative `data.root` or `train.init` is relative to the file's folder; in an override and in a shipped example, to
    the working folder. If there is no file `path`, the shipped example of that name is used.

    Args:
        preset: a name of PRESETS, which replaces the file's own `preset`; all other keys of the file override it.
    Raises: ConfigError that names the key, and the most similar one that is known.
    """
    file, shipped = _find(Path(path))
    values = read_mapping(file, "data, model, train, ...")
    if "data" not in values and ("names" in values or "nc" in values):
        values = {"data": _from_ultralytics(file, values)}
    folder = Path() if shipped else file.parent
    data, train = values.get("data"), values.get("train")
    if isinstance(data, dict) and isinstance(data.get("root", "."), str):
        data["root"] = str(folder / data.get("root", "."))
    if isinstance(train, dict) and isinstance(train.get("init"), str):
        train["init"] = str(folder / train["init"])
    own = values.pop("preset", None)
    if preset is not None or own is not None:
        name, source = (preset, "--preset") if preset is not None else (str(own), f"{path}: preset")
        if name not in PRESETS:
            raise ConfigError(f"{source}: unknown preset {name!r}; expected {', '.join(PRESETS)}")
        values = _over(values, PRESETS[name])
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
    """The example configs that come with the installation: file name -> path."""
    here = Path(__file__).parent
    for folder in (here / "examples", here.parent / "examples"):
        if folder.is_dir():
            return {path.name: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def _find(path: Path) -> tuple[Path, bool]:
    """The config file, and whether it is a shipped example."""
    if path.is_file():
        return path, False
    if path.is_dir():
        raise ConfigError(
            f"{path}: is a folder, expected a YAML file; {_init_command(path)} writes one for its data set"
        )
    if path.is_symlink():
        raise ConfigError(f"{path}: is a link to {os.readlink(path)}, which does not exist")
    shipped = shipped_examples()
    if path.name in shipped and path.parent == Path():
        return shipped[path.name], True
    data = path.with_suffix("")
    other = path.with_suffix(".yml" if path.suffix == ".yaml" else ".yaml")
    if other.is_file():
        raise ConfigError(f"{path}: no such file; did you mean {other}?")
    hint = f"; {_init_command(data)} writes one for the data set there" if data.is_dir() else similar_file(path)
    raise ConfigError(f"{path}: no such file here or among the shipped examples ({', '.join(shipped)}){hint}")


def _init_command(folder: Path) -> str:
    return shlex.join(["retina", "init", str(folder)])


def _from_ultralytics(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The section `data` for the data set of a file with path, train, val, names and nc. Raises: ConfigError."""
    from retinanet.data.formats.files import DATA_YAML  # here, since its package loads OpenCV

    val = next((name for name in ("val", "valid", "validation") if values.get(name)), None)
    data = {"root": ".", "train": "train"} | ({"val": val} if val else {})
    if file.name not in DATA_YAML:
        written = ", ".join(f"{key}: {value}" for key, value in ({**data, "root": "FOLDER"}).items())
        raise ConfigError(
            f"{file}: is a data file of Ultralytics, not a config; move it to the data set's folder as data.yaml and "
            f"give that file, or write a config with data: {{{written}}}"
        )
    if not values.get("train"):
        raise ConfigError(f"{file}: is a data file of Ultralytics without train; expected train: FOLDER of the images")
    return data


def _over(values: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`defaults`, section by section overridden by `values`."""
    merged = dict(values)
    for section, default in defaults.items():
        own = values.get(section, {})
        if section == "data" and isinstance(own, str):
            own = _from_word(section, own)
        if isinstance(own, dict):  # anything else is rejected later
            merged[section] = default | own
    return merged


def _with_checkpoint(values: dict[str, Any]) -> dict[str, Any]:
    """`values` over the model and anchors of the checkpoint `train.init` from which to fine-tune, if there is one."""
    train = values.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("init"), str):
        return values
    from retinanet.checkpoints.checkpoint import read_checked_metadata  # here, since it loads torch

    origin = config_to_dict(read_checked_metadata(train["init"]).config)
    return _over(values, {section: origin[section] for section in ("model", "anchors")})


def _override(values: dict[str, Any], assignment: str) -> None:
    """Apply `key.path=value` to `values`, in place."""
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
        # a copy, since a YAML alias can put the same mapping in two places
        values[section] = dict(inner) if isinstance(inner, dict) else _from_word(section, inner)
        values = values[section]
    values[last] = value


def _from_word(section: str, value: Any) -> dict[str, Any]:
    """The mapping that the single word, or the fraction, `value` in a section abbreviates."""
    if isinstance(value, (int, float)) and section == "val":
        return {"fraction": value}
    if isinstance(value, str):
        return {"embedded": value} if section == "data" else {"name": value}
    return {}


def _located(config: Config) -> Config:
    """`config` with an absolute `data.root`, so that a checkpoint finds its data from any folder."""
    return replace(config, data=replace(config.data, root=os.path.abspath(config.data.root)))
