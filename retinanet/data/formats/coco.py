"""Reads COCO's annotation JSON."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retinanet.data.formats.build import RawColumns, check_relative, header_sizes
from retinanet.errors import MOST_OF_A_PART, DataError, Faults
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line

MAX_BYTES = 2**33  # of an annotation file; Objects365: 5 GB
MISSING = object()

# without polygons, two thirds of train2017, parsing takes half the time and memory; quotes in JSON strings are escaped,
# so `"segmentation":` is always a key
POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[^"{}]*\]')


def read_coco(images: Path, annotations: Path) -> RawColumns:
    """The images of folder `images` with the boxes of a COCO JSON file; labels follow ascending category ids.

    Raises: DataError if a path is missing or a file invalid.
    """
    for path, kind in ((annotations, "annotation file"), (images, "image folder")):
        if not path.exists():
            raise DataError(f"{path}: no such {kind}; data.root (--set data.root=DIR) must be the data set's folder")
    pictures, objects, categories = _tables(annotations)
    annotated = all(picture.get("height") and picture.get("width") for picture in pictures.entries)
    faults = Faults()
    with faults:
        names = categories.column("name", _is_text, "a string")
    with faults:
        category_ids = categories.unique_ids()
        ascending = np.argsort(category_ids)
        labels = objects.references("category_id", category_ids[ascending], "categories")
    with faults:
        image_ids = pictures.unique_ids()
        image_index = objects.references("image_id", image_ids, "images")
    with faults:
        files = pictures.column("file_name", _is_text, "a string")
        for index, file in enumerate(files):
            with faults:
                check_relative(file, f"{annotations.name}: images[{index}]")
    if annotated:
        with faults:
            heights = pictures.column("height", _is_side, "a number >= 1")
        with faults:
            widths = pictures.column("width", _is_side, "a number >= 1")
    with faults:
        annotation_ids = objects.unique_ids()
    with faults:
        boxes = objects.column("bbox", _is_box, "4 numbers, [x, y, width, height]")
    with faults:
        areas = objects.column("area", lambda area: area is None or _is_number(area), "a number", None)
    with faults:
        crowd = objects.column("iscrowd", lambda crowd: crowd in (0, 1), "0 or 1", 0)
    faults.raise_if_any()
    return RawColumns(
        source=annotations.name,
        names=[names[index] for index in ascending],
        category_ids=category_ids[ascending].tolist(),
        folder=images,
        files=files,
        image_ids=image_ids,
        sizes=np.array([heights, widths]).T if annotated else header_sizes(images, files),
        sizes_annotated=annotated,
        image_index=image_index,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        areas=np.array(areas, np.float64),  # None becomes NaN
        labels=labels,
        crowd=np.array(crowd, bool),
        annotation_ids=annotation_ids,
    )


class _Table(NamedTuple):
    """One of the lists of a COCO file, whose name is `file`."""

    file: str
    name: str
    entries: list[dict[str, Any]]

    def column(self, field: str, valid: Callable[[Any], bool], expected: str, default: Any = MISSING) -> list[Any]:
        """One field of each entry. Raises: DataError for the missing or invalid values."""
        values, faults = [entry.get(field, default) for entry in self.entries], Faults(MOST_OF_A_PART)
        for index, value in enumerate(values):
            if value is MISSING or not valid(value):
                got = f'no "{field}"' if value is MISSING else f"{field} {_abridged(value)}"
                faults.add(DataError(f"{self.file}: {self.name}[{index}] has {got}; expected {expected}"))
        faults.raise_if_any()
        return values

    def unique_ids(self) -> np.ndarray:
        ids = np.array(self.column("id", _is_integer, "an integer"), np.int64)
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) < len(ids):
            again = counts.argmax()
            singular = {"images": "image", "annotations": "annotation", "categories": "category"}[self.name]
            raise DataError(
                f'{self.file}: "{self.name}" has id {unique[again]} {counts[again]} times; ids must differ',
                f"repeated-{singular}-id",
                singular,
                unique[counts > 1].tolist(),
            )
        return ids

    def references(self, field: str, ids: np.ndarray, table: str) -> np.ndarray:
        """For each annotation, the index of its `field` in the unique `ids` of another table."""
        named = np.array(self.column(field, _is_integer, "an integer"), np.int64)
        order = np.argsort(ids)
        positions = order[np.searchsorted(ids, named, sorter=order).clip(max=len(ids) - 1)]
        wrong = np.flatnonzero(ids[positions] != named)
        if len(wrong):
            annotations = [self.entries[index].get("id", index) for index in wrong.tolist()]
            raise DataError(
                f'{self.file}: annotation {annotations[0]} has {field} {named[wrong[0]]}; "{table}" has no such id',
                f"unknown-{field.removesuffix('_id')}",
                "annotation",
                annotations,
            )
        return positions


def _tables(annotations: Path) -> list[_Table]:
    """The lists of images, annotations and categories of a COCO file."""
    file, document = annotations.name, _load(annotations)
    tables, faults = [], Faults()
    for name in ("images", "annotations", "categories"):
        entries = document.get(name)
        if not isinstance(entries, list):
            faults.add(DataError(f'{file}: has no list "{name}"; expected COCO\'s images, annotations and categories'))
            continue
        if not entries and name != "annotations":
            faults.add(DataError(f'{file}: "{name}" is empty'))
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                faults.add(DataError(f"{file}: {name}[{index}] is {_abridged(entry)}; expected an object"))
        tables.append(_Table(file, name, entries))
    faults.raise_if_any()
    return tables


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(POLYGONS.sub(b'"segmentation":0', read_bytes(path, MAX_BYTES, DataError)))
    except RecursionError as error:
        raise DataError(f"{path}: not COCO's JSON: nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: is a JSON {type(document).__name__}; expected an object")
    return document


def _abridged(value: Any) -> str:
    try:
        return textwrap.shorten(json.dumps(value), 80)
    except RecursionError:
        return "lists in lists"


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


def _is_side(value: Any) -> bool:
    return _is_number(value) and 1 <= value < 2**31


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return type(value) is str and value.encode("utf-8", "ignore").decode() == value  # no unpaired surrogates
