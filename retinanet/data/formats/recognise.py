"""Opens a split of a data set in one of the known formats."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from retinanet.config.schema import SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.build import RawColumns, build_dataset
from retinanet.data.formats.coco import read_coco
from retinanet.data.formats.layouts import WRONG_ROOT, Place, locate
from retinanet.data.formats.voc import class_names, read_lists, read_voc
from retinanet.data.formats.yolo import read_yolo
from retinanet.errors import DataError


def open_split(
    root: Path,
    split: SplitConfig,
    classes: Sequence[str] | None = None,
    skip_empty: bool = False,
    others: Sequence[SplitConfig] = (),
    part: Callable[[RawColumns], RawColumns] = lambda raw: raw,
) -> Dataset:
    """One split of the COCO, Pascal VOC or YOLO data set in the folder `root`.

    split: its annotations are a .json file for COCO, a folder of .xml files for VOC (restricted to the split's name if
    it is in ImageSets/Main), or a folder of .txt files for YOLO. Without images and annotations, the name is searched
    for in the usual layouts of the three formats.
    classes: the names to keep, in their new order; None: all. skip_empty: drop images without objects.
    others: splits whose classes are classes of this one, too, where the format lists no names (VOC).
    part: chooses among the images before `classes` and `skip_empty` do.
    Raises: DataError if no format is recognised, no image remains, or a file is invalid.
    """
    if not root.is_dir():
        raise DataError(f"{root}: {WRONG_ROOT}")
    dataset = build_dataset(part(_read(root, locate(root, split), classes, others)), classes)
    if skip_empty:
        dataset = dataset.take(np.flatnonzero(np.diff(dataset.first_object)))
    if not len(dataset):
        name = split.name or split.annotations
        raise DataError(f"{root}: the split {name} has no images" + " with objects" * skip_empty)
    return dataset


def _read(root: Path, place: Place, classes: Sequence[str] | None, others: Sequence[SplitConfig]) -> RawColumns:
    if place.annotations is None or place.format == "YOLO":
        return read_yolo(root, place.images, place.annotations, classes)
    if place.format == "COCO":
        return read_coco(place.images, place.annotations)
    for folder in (*place.images, place.annotations):
        if not folder.is_dir():
            raise DataError(f"{folder}: {WRONG_ROOT}")
    stems = read_lists(place.lists) if place.lists else None
    return read_voc(place.images[0], place.annotations, stems, _names_elsewhere(root, place.annotations, others))


def _names_elsewhere(root: Path, annotations: Path, others: Sequence[SplitConfig]) -> set[str]:
    """Names of the classes in the other splits' folders of VOC files."""
    names: set[str] = set()
    for other in others:
        with suppress(DataError, OSError):  # reported when that split is opened
            place = locate(root, other)
            if place.format == "VOC" and place.annotations and place.annotations != annotations:
                names |= class_names(place.annotations)
    return names
