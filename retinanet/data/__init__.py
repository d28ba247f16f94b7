"""Data sets: reading, transforms and batches; `open_dataset` opens the one in a config."""

from dataclasses import replace
from pathlib import Path

from retinanet.config.schema import DataConfig, SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.recognise import open_split
from retinanet.data.shapes import open_shapes
from retinanet.errors import ConfigError, DataError


def open_dataset(data: DataConfig, split: str) -> Dataset:
    """The split "train" or "val" of a config, or another split of its data set, such as "test".

    Raises: ConfigError if data.train or data.val is not set; DataError if the split cannot be read.
    """
    part = {"train": data.train, "val": data.val}.get(split, SplitConfig(name=split))
    if data.embedded == "shapes":
        return open_shapes(part.name if part and part.name else split)
    if part is None:
        raise ConfigError(f"data.{split} is not set; expected a split's name, or images and annotations")
    try:
        dataset = open_split(Path(data.root), part, data.classes, data.skip_empty and split == "train")
        return replace(dataset, max_pixels=data.max_pixels)
    except OSError as error:  # such as a missing permission or an overlong name
        raise DataError(f"{error.filename or data.root}: cannot be read: {error.strerror or error}") from None
    except DataError as error:
        if data.source is None or Path(data.root).is_dir():
            raise
        raise DataError(f"{error}; the data can be downloaded from {data.source}") from None
