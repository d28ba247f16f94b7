"""Whether a run that goes on is the run that it was: its config, its data."""

import hashlib
from typing import Any

from retinanet.config import Config, config_to_dict
from retinanet.data.dataset import Dataset
from retinanet.errors import CheckpointError
from retinanet.resumption import Saved

FREE = (  # keys that may differ when a run goes on: its end, what it tells, and where it happens
    *("train.epochs", "train.steps", "train.patience", "train.eval_every", "train.log_every", "train.checkpoint_every"),
    *("train.device", "train.init", "model.pretrained", "data.workers", "data.root"),
)


def check_same(saved: Saved, config: Config, classes: tuple[str, ...], data: str, force: bool) -> list[str]:
    """What differs from the run that `saved` is of, one line.

    classes, data: of the training data, as `data_key` has it. force: also where a difference makes it another run.

    Raises: CheckpointError.
    """
    before = saved.metadata.classes
    if before != classes:
        raise CheckpointError(f"{saved.file}: was trained on {list(before)}, the data has {list(classes)}")
    differ = changes(saved.metadata.config, config)
    held = [text for key, text in differ.items() if key not in FREE]
    if saved.metadata.progress.get("data") not in ("", None, data):
        held.append("the images or objects of data.train are others")
    if held and not force:
        raise CheckpointError(
            f"{saved.file.parent}: --resume would not continue the same run: {'; '.join(held[:5])}; --force does so, "
            "-o names another folder"
        )
    free = [text for key, text in differ.items() if key in FREE]
    return [f"changed since the checkpoint: {'; '.join(held + free)}"] if held or free else []


def changes(before: Config, now: Config) -> dict[str, str]:
    """Of each key that differs, such as "train.lr": "train.lr was 0.01, is 0.02"."""
    old, new = _flat(config_to_dict(before)), _flat(config_to_dict(now))
    return {key: f"{key} was {old[key]}, is {new[key]}" for key in new if old[key] != new[key]}


def data_key(dataset: Dataset) -> str:
    """A hash of a data set's file names and annotations, without the images' pixels."""
    digest = hashlib.sha256(dataset.files.bytes.tobytes())
    for column in (dataset.image_ids, dataset.starts, dataset.boxes, dataset.labels, dataset.crowd):
        digest.update(column.tobytes())
    return digest.hexdigest()


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
