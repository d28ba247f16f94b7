"""Data sets: reading, transforms and batches; `open_dataset` opens the one in a config."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from retinanet.config.schema import DataConfig, SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.recognise import open_split
from retinanet.data.held_out import part_of
from retinanet.data.shapes import open_shapes
from retinanet.errors import ConfigError, DataError


def open_dataset(data: DataConfig, split: str) -> Dataset:
    """The split "train" or "val" of a config, or another split of its data set, such as "test".

    If data.val is a fraction, both are parts of data.train. Where the format lists no class names (VOC), the classes
    are those of this split, data.train and data.val.

    Raises: ConfigError if data.train or data.val is not set; DataError if the split cannot be read.
    """
    fixed = {"train": data.train, "val": data.val}
    held_out = split in fixed and data.val is not None and data.val.fraction is not None
    files = data.train if held_out else fixed.get(split, SplitConfig(name=split))
    if data.embedded == "shapes":
        return open_shapes(files.name if files and files.name else split)
    if files is None:
        name = "train" if held_out else split
        raise ConfigError(f"data.{name} is not set; expected a split's name, or images and annotations")
    part = partial(part_of, val=data.val if held_out else None, split=split)
    try:
        others = [each for each in (data.train, None if held_out else data.val) if each not in (None, files)]
        skip_empty = data.skip_empty and split == "train"
        dataset = open_split(Path(data.root), files, data.classes, skip_empty, others, part)
        return replace(dataset, max_pixels=data.max_pixels)
    except OSError as error:  # such as a missing permission or an overlong name
        raise DataError(f"{error.filename or data.root}: cannot be read: {error.strerror or error}") from None
    except DataError as error:
        if data.source is None or Path(data.root).is_dir():
            raise
        raise DataError(f"{error}; the data can be downloaded from {data.source}") from None
