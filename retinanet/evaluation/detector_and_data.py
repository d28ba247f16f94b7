"""A detector and the data to measure it on, with the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class DataSource:
    """The data to measure a detector on.

    data: None: the data that the detector was trained with; a YAML file: the data of this config; or an open data set,
        for which `split` is not used.
    overrides: changes such as "detect.nms_iou=0.6", to the detector's config and to that of `data`.
    """

    data: str | Dataset | None = None
    split: str = "val"
    overrides: Sequence[str] = ()


OWN_VAL_SPLIT = DataSource()


def checkpoint_and_data(
    path: str | Path, source: DataSource = OWN_VAL_SPLIT, device: torch.device | str = "cpu"
) -> tuple[RetinaNet, Config, Dataset]:
    """The detector of a checkpoint or of a run's folder, its config, and the data to measure it on.

    Classes that the data does not have are removed from the detector.

    Raises: CheckpointError, ConfigError; DataError, also if the data has a category that the detector does not know.
    """
    model, metadata = open_model(path)
    config = override(metadata.config, source.overrides)
    dataset = _fit(model, metadata, path, source)
    return model.to(device).to(memory_format=torch.channels_last), config, dataset


def exported_and_data(
    path: str | Path, source: DataSource, precision: Precision
) -> tuple[ExportedModel, Config, Dataset]:
    """Like `checkpoint_and_data`, for a file that `retina export` wrote. precision: see `open_exported`.

    Raises: ConfigError also if an override changes a setting that is fixed in the file.
    """
    model, metadata = open_exported(path, precision)
    config = override(metadata.config, source.overrides)
    for section, key in (("detect", "top_k"), ("detect", "clip_first"), ("data", "resize")):
        if getattr(getattr(metadata.config, section), key) != getattr(getattr(config, section), key):
            raise ConfigError(f"{section}.{key}: is fixed in {path}; it can be set for a checkpoint")
    return model, config, _fit(model, metadata, path, source)


def _fit(model: RetinaNet | ExportedModel, metadata: Metadata, path: str | Path, source: DataSource) -> Dataset:
    """Open the data and remove the classes that it does not have from `model`. path: the model's file, for messages."""
    if isinstance(source.data, Dataset):
        dataset = source.data
    else:
        dataset = open_dataset(data_config(metadata, source.data, source.overrides), source.split)
    labels = known_labels(metadata, dataset, path)
    if labels != list(range(len(metadata.classes))):
        model.keep_classes(labels)
    return dataset


def data_config(metadata: Metadata, data: str | None, overrides: Sequence[str]) -> DataConfig:
    """The data that the detector was trained with, or that of config `data`, restricted to the detector's classes.

    The restriction applies where the detector was trained on some of its data's classes (data.classes).
    """
    config = override(metadata.config, overrides) if data is None else load_config(data, overrides)
    if config.data.classes is None and config.data.embedded is None:
        return replace(config.data, classes=metadata.config.data.classes)
    return config.data


def known_labels(metadata: Metadata, dataset: Dataset, path: str | Path) -> list[int]:
    """The detector's label of each class of `dataset`.

    path: the detector's file, for the message. Raises: DataError if the detector does not know one of the classes.
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
