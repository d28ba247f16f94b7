"""Recognises the format of a data set from its files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retinanet.config.schema import SplitConfig
from retinanet.data.dataset import Dataset
from retinanet.data.formats.build import RawColumns, build_dataset
from retinanet.data.formats.coco import read_coco
from retinanet.data.formats.voc import read_voc
from retinanet.data.formats.yolo import read_lines, read_yolo, split_sources
from retinanet.errors import DataError


def open_split(
    root: Path,
    split: SplitConfig,
    classes: Sequence[str] | None = None,
    skip_empty: bool = False,
    part: Callable[[RawColumns], RawColumns] = lambda raw: raw,
) -> Dataset:
    """One split of the COCO, Pascal VOC or YOLO data set in the folder `root`.

    split: its annotations are a .json file for COCO, a folder of .xml files for VOC (restricted to the split's name if
    it is in ImageSets/Main), or a folder of .txt files for YOLO. Without images and annotations, the name is searched
    for in the usual layouts of the three formats.
    classes: the names to keep, in their new order; None: all. skip_empty: drop images without objects.
    part: chooses among the images before `classes` and `skip_empty` do.
    Raises: DataError if no format is recognised, no image remains, or a file is invalid.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; data.root (--set data.root=DIR) must be the data set's folder")
    if split.images is not None and split.annotations is not None:
        raw = _read_paths(root, split.name, root / split.images, root / split.annotations)
    elif split.name is not None and split.images is None and split.annotations is None:
        raw = _read_named(root, split.name)
    else:
        raise DataError(f"{root}: a split needs images and annotations, or only a name")
    dataset = build_dataset(part(raw), classes)
    if skip_empty:
        dataset = dataset.take(np.flatnonzero(np.diff(dataset.first_object)))
    if not len(dataset):
        name = split.name or split.annotations
        raise DataError(f"{root}: the split {name} has no images" + " with objects" * skip_empty)
    return dataset


def _read_paths(root: Path, name: str | None, images: Path, annotations: Path) -> RawColumns:
    if annotations.suffix.lower() == ".json":
        return read_coco(images, annotations)
    for folder in (images, annotations):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; data.root (--set data.root=DIR) must be the data set's folder")
    if any(annotations.glob("*.xml")):
        split = root / "ImageSets" / "Main" / f"{name}.txt"
        stems = list(filter(None, read_lines(split))) if split.is_file() else None
        return read_voc(images, annotations, stems)
    if any(annotations.rglob("*.txt")):
        return read_yolo(root, [images], annotations)
    raise DataError(f"{annotations}: no annotations found; expected a .json file, or a folder of .xml or .txt files")


def _read_named(root: Path, name: str) -> RawColumns:
    coco = root / "annotations" / f"instances_{name}.json"
    if coco.is_file():
        images = root / "images" / name
        return read_coco(images if images.is_dir() else root / name, coco)
    roboflow = root / name / "_annotations.coco.json"
    if roboflow.is_file():
        return read_coco(roboflow.parent, roboflow)
    if (root / "ImageSets" / "Main" / f"{name}.txt").is_file():
        return _read_paths(root, name, root / "JPEGImages", root / "Annotations")
    if sources := split_sources(root, name):
        return read_yolo(root, sources)
    for pictures, labels in ((f"images/{name}", f"labels/{name}"), (f"{name}/images", f"{name}/labels")):
        if (root / pictures).is_dir() and (root / labels).is_dir():
            return read_yolo(root, [root / pictures], root / labels)
    raise DataError(
        f'{root}: no split "{name}"; looked for annotations/instances_{name}.json, {name}/_annotations.coco.json, '
        f"ImageSets/Main/{name}.txt, {name} in data.yaml, images/{name} with labels/{name}, "
        f"{name}/images with {name}/labels"
    )
