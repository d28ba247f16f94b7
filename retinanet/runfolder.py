"""A run's folder: who may write it, its config and its log."""

import os
from pathlib import Path

import yaml

from retinanet.config import Config, config_to_dict
from retinanet.errors import CheckpointError, TrainingError

LOG = "metrics.jsonl"


def check_new(output: Path) -> None:
    if output.is_dir() and any(output.iterdir()):
        raise CheckpointError(f"{output}: exists and is not empty; --resume continues it, -o names another folder")
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: is a file, expected a folder that does not exist yet")
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TrainingError(f"{output}: cannot be written: {parent} is read-only for this user")


def prepare_folder(output: Path, config: Config) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config_to_dict(config), sort_keys=False)
        (output / "config.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{output}: cannot be written: {error.strerror}") from None


def open_log(path: Path, keep: int):
    """The log, cut back to its first `keep` bytes, ready to append."""
    file = path.open("ab")
    file.truncate(keep)
    file.seek(0, 2)
    return file
