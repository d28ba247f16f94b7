"""A detector and the data to measure it on, with the same classes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from retinanet.checkpoints.metadata import Metadata
from retinanet.checkpoints.pretrained import open_model
from retinanet.config.schema import Config, DataConfig
from retinanet.config_file import load_config, override
from retinanet.data import open_dataset
from retinanet.data.dataset import Dataset
from retinanet.errors import ConfigError, DataError
from retinanet.inference.exported_model import ExportedModel, Precision, open_exported
from retinanet.model.retinanet import RetinaNet


def checkpoint_and_data(
    path: str | Path,
    data: str | Dataset | None = None,
    split: str = "val",
    overrides: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> tuple[RetinaNet, Config, Dataset]:
    """The detector of a checkpoint or a run's folder, its config, and a split of its own data or of config `data`'s.

    data: as `evaluate_checkpoint` takes it. Classes of the detector that the data has not are left out of it.

    Raises: CheckpointError, ConfigError, DataError, also if the data has categories that the checkpoint has not.
    """
    model, metadata = open_model(path)
    config = override(metadata.config, overrides)
    dataset = _fit(model, metadata, path, data, split, overrides)
    return model.to(device).to(memory_format=torch.channels_last), config, dataset


def exported_and_data(
    path: str | Path,
    data: str | Dataset | None,
    split: str,
    overrides: Sequence[str],
    precision: Precision,
) -> tuple[ExportedModel, Config, Dataset]:
    """As `checkpoint_and_data`, of a file that `retina export` wrote. precision: as `open_exported` takes it.

    Raises: ConfigError also if `overrides` change what the file holds.
    """
    model, metadata = open_exported(path, precision)
    config = override(metadata.config, overrides)
    for section, key in (("detect", "top_k"), ("detect", "clip_first"), ("data", "resize")):
        if getattr(getattr(metadata.config, section), key) != getattr(getattr(config, section), key):
            raise ConfigError(f"{section}.{key}: is fixed in {path}; it can be set for a checkpoint")
    return model, config, _fit(model, metadata, path, data, split, overrides)


def _fit(
    model: RetinaNet | ExportedModel,
    metadata: Metadata,
    path: str | Path,
    data: str | Dataset | None,
    split: str,
    overrides: Sequence[str],
) -> Dataset:
    """The data to measure `model` of `path` on; classes that the data has not are left out of the model."""
    dataset = data if isinstance(data, Dataset) else open_dataset(data_config(metadata, data, overrides), split)
    labels = known_labels(metadata, dataset, path)
    if labels != list(range(len(metadata.classes))):
        model.keep_classes(labels)
    return dataset


def data_config(metadata: Metadata, data: str | None, overrides: Sequence[str]) -> DataConfig:
    """The detector's own data, or that of config `data`, of its classes where those are some of its data's."""
    config = override(metadata.config, overrides) if data is None else load_config(data, overrides)
    if config.data.classes is None and config.data.embedded is None:
        return replace(config.data, classes=metadata.config.data.classes)
    return config.data


def known_labels(metadata: Metadata, dataset: Dataset, path: str | Path) -> list[int]:
    """The detector's label of each class of `dataset`.

    path: of the detector, for the message. Raises: DataError for a class that the detector has not.
    """
    known = {
        category: label for label, category in enumerate(zip(metadata.category_ids, metadata.classes, strict=True))
    }
    try:
        return [known[category] for category in zip(dataset.category_ids, dataset.classes, strict=True)]
    except KeyError:
        theirs = ", ".join(f"{name} ({i})" for i, name in zip(dataset.category_ids, dataset.classes, strict=True))
        ours = ", ".join(f"{name} ({i})" for i, name in zip(metadata.category_ids, metadata.classes, strict=True))
        raise DataError(f"the data has the categories {theirs[:200]}; {path} was trained on {ours[:200]}") from None
