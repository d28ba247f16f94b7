"""A detector and the data to evaluate it on, with the same classes."""

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
from retinanet.evaluation.results_file import ResultsFile
from retinanet.inference.detector import Detector
from retinanet.inference.exported_model import ExportedModel
from retinanet.inference.torch_model import TorchModel
from retinanet.model.retinanet import RetinaNet


@dataclass(frozen=True)
class DataSource:
    """The data to evaluate on.

    data: None: the detector's training data; a config or its file; or an open data set, which ignores `split`.
    overrides: changes such as "detect.nms_iou=0.6" to the configs of the detector and of `data`.
    """

    data: Config | Dataset | str | Path | None = None
    split: str = "val"
    overrides: Sequence[str] = ()


OWN_VAL_SPLIT = DataSource()


def checkpoint_and_data(
    path: str | Path, source: DataSource = OWN_VAL_SPLIT, device: torch.device | str = "cpu"
) -> tuple[RetinaNet, Config, Dataset]:
    """The detector of a checkpoint or of a run's folder, restricted to the data's classes, its config, and the data.

    Raises: CheckpointError, ConfigError; DataError, also if the detector lacks a category of the data.
    """
    model, metadata = open_model(path)
    config = override(metadata.config, source.overrides)
    dataset, labels = _data_and_labels(metadata, path, source)
    if not _are_all(labels, metadata):
        model.keep_classes(labels)
    return model.to(device).to(memory_format=torch.channels_last), config, dataset


def model_and_data(
    detector: Detector, source: DataSource
) -> tuple[TorchModel | ExportedModel, Config, Dataset, tuple[int, ...]]:
    """The model of `detector`, restricted to the data's classes; its config; the data; the model's category ids.

    The detector stays as it is. Raises: see `checkpoint_and_data`; ConfigError also if an override changes a setting
    that is fixed in the file of an exported model.
    """
    model, metadata = detector.model, detector.metadata
    config = override(metadata.config, source.overrides)
    if isinstance(model, ExportedModel):
        for section, key in (("detect", "top_k"), ("detect", "clip_first"), ("data", "resize")):
            if getattr(getattr(metadata.config, section), key) != getattr(getattr(config, section), key):
                raise ConfigError(f"{section}.{key}: is fixed in {model.file}; it can be set for a checkpoint")
    dataset, labels = _data_and_labels(metadata, model.file or "the detector", source)
    category_ids = tuple(metadata.category_ids[label] for label in labels)
    return model if _are_all(labels, metadata) else model.with_classes(labels), config, dataset, category_ids


def data_of_results(file: ResultsFile, source: DataSource) -> Dataset:
    """The data of a results file, which holds only detections. Raises: ConfigError without data; DataError."""
    if isinstance(source.data, Dataset):
        return source.data
    if source.data is None:
        raise ConfigError(f"{file.path}: holds only detections; name the data set that they are of, as --data CONFIG")
    if isinstance(source.data, Config):
        config = override(source.data, source.overrides)
    else:
        config = load_config(source.data, source.overrides)
    return open_dataset(config.data, source.split)


def _data_and_labels(metadata: Metadata, path: str | Path, source: DataSource) -> tuple[Dataset, list[int]]:
    """The data, and the detector's label of each of its classes. path: the detector's file, for messages."""
    if isinstance(source.data, Dataset):
        dataset = source.data
    else:
        dataset = open_dataset(data_config(metadata, source.data, source.overrides), source.split)
    labels, note = known_labels(metadata, dataset, path)
    if note:
        dataset = replace(dataset, notes=[*dataset.notes, f"{path}: {note} from those of the data"])
    return dataset, labels


def _are_all(labels: list[int], metadata: Metadata) -> bool:
    return labels == list(range(len(metadata.classes)))


def data_config(metadata: Metadata, data: Config | str | Path | None, overrides: Sequence[str]) -> DataConfig:
    """The detector's training data or that of config `data`, restricted to data.classes of the training config."""
    if data is None or isinstance(data, Config):
        config = override(data or metadata.config, overrides)
    else:
        config = load_config(data, overrides)
    if config.data.classes is None and config.data.embedded is None:
        return replace(config.data, classes=metadata.config.data.classes)
    return config.data


def known_labels(metadata: Metadata, dataset: Dataset, path: str | Path) -> tuple[list[int], str]:
    """The detector's label of each class of `dataset`, and a message if names alone decide, as ids differ, else "".

    Raises: DataError, naming `path`, if it lacks a class, or if two classes of the same name have other ids.
    """
    ours, theirs = (list(zip(each.category_ids, each.classes, strict=True)) for each in (metadata, dataset))
    if set(theirs) <= set(ours):
        return [ours.index(category) for category in theirs], ""
    names = list(metadata.classes)
    if unknown := [name for name in dataset.classes if name not in names]:
        lacking, trained = ", ".join(unknown)[:200], ", ".join(f"{name} ({i})" for i, name in ours)[:200]
        raise DataError(f"{path} does not know the classes {lacking} of the data; {path} was trained on {trained}")
    if len(set(names)) < len(names) or len(set(dataset.classes)) < len(dataset.classes):
        raise DataError(
            f"{path}: has other category ids than the data, and classes of one name; their ids must be equal"
        )
    return [names.index(name) for name in dataset.classes], "classes are matched by name, as their ids differ"
