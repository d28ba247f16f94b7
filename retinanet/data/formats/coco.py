"""Reads COCO's annotation JSON."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.formats.build import RawColumns, check_relative, header_sizes
from retinanet.errors import DataError
from retinanet.io.size_limits import read_bytes
from retinanet.messages import one_line

MAX_BYTES = 2**33  # of an annotation file; Objects365: 5 GB

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
    where = annotations.name
    pictures, objects, categories = _tables(annotations)
    category_ids = _unique_ids(where, "categories", categories)
    names = _column(where, "categories", categories, "name", _is_text, "a string")
    ascending = np.argsort(category_ids)

    image_ids = _unique_ids(where, "images", pictures)
    files = _column(where, "images", pictures, "file_name", _is_text, "a string")
    for index, file in enumerate(files):
        check_relative(file, f"{where}: images[{index}]")
    annotated = all(picture.get("height") and picture.get("width") for picture in pictures)
    if annotated:
        sides = [_column(where, "images", pictures, side, _is_side, "a number >= 1") for side in ("height", "width")]
        sizes = np.array(sides).T
    else:
        sizes = header_sizes(images, files)

    annotation_ids = _unique_ids(where, "annotations", objects)
    boxes = _column(where, "annotations", objects, "bbox", _is_box, "4 numbers, [x, y, width, height]")
    areas = _column(
        where, "annotations", objects, "area", lambda area: area is None or _is_number(area), "a number", None
    )
    crowd = _column(where, "annotations", objects, "iscrowd", lambda crowd: crowd in (0, 1), "0 or 1", 0)
    return RawColumns(
        source=where,
        names=[names[index] for index in ascending],
        category_ids=category_ids[ascending].tolist(),
        folder=images,
        files=files,
        image_ids=image_ids,
        sizes=sizes,
        sizes_annotated=annotated,
        image_index=_references(where, objects, "image_id", image_ids, "images"),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        areas=np.array(areas, np.float64),  # None becomes NaN
        labels=_references(where, objects, "category_id", category_ids[ascending], "categories"),
        crowd=np.array(crowd, bool),
        annotation_ids=annotation_ids,
    )


def _tables(annotations: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The lists of images, annotations and categories of a COCO file."""
    where, keys = annotations.name, ("images", "annotations", "categories")
    document = _load(annotations)
    for key in keys:
        if not isinstance(document.get(key), list):
            raise DataError(f'{where}: has no list "{key}"; expected COCO\'s images, annotations and categories')
        if not all(isinstance(entry, dict) for entry in document[key]):
            raise DataError(f'{where}: "{key}" has an entry that is not an object')
    for key in ("images", "categories"):
        if not document[key]:
            raise DataError(f'{where}: "{key}" is empty')
    images, objects, categories = (document[key] for key in keys)
    return images, objects, categories


def _load(path: Path) -> dict[str, Any]:
    try:
        text = POLYGONS.sub(b'"segmentation":0', read_bytes(path, MAX_BYTES, DataError))
        document = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path}: not COCO's JSON: nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: holds a JSON {type(document).__name__}; expected an object")
    return document


MISSING = object()


def _column(
    where: str,
    table: str,
    entries: list[dict[str, Any]],
    field: str,
    valid: Callable[[Any], bool],
    expected: str,
    default: Any = MISSING,
) -> list[Any]:
    """One field of each entry. Raises: DataError for the first missing or invalid value."""
    values = [entry.get(field, default) for entry in entries]
    for index, value in enumerate(values):
        if value is MISSING:
            raise DataError(f'{where}: {table}[{index}] has no "{field}"; expected {expected}')
        if not valid(value):
            raise DataError(f"{where}: {table}[{index}] has {field} {_abridged(value)}; expected {expected}")
    return values


def _abridged(value: Any) -> str:
    try:
        return textwrap.shorten(json.dumps(value), 80)
    except RecursionError:
        return "lists in lists"


def _unique_ids(where: str, table: str, entries: list[dict[str, Any]]) -> np.ndarray:
    ids = np.array(_column(where, table, entries, "id", _is_integer, "an integer"), np.int64)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        again = counts.argmax()
        singular = {"images": "image", "annotations": "annotation", "categories": "category"}[table]
        raise DataError(
            f'{where}: "{table}" has id {unique[again]} {counts[again]} times; ids must differ',
            f"repeated-{singular}-id",
            singular,
            unique[counts > 1].tolist(),
        )
    return ids


def _references(where: str, objects: list[dict[str, Any]], field: str, ids: np.ndarray, table: str) -> np.ndarray:
    """For each annotation, the index of its `field` in the unique `ids`."""
    named = np.array(_column(where, "annotations", objects, field, _is_integer, "an integer"), np.int64)
    order = np.argsort(ids)
    positions = order[np.searchsorted(ids, named, sorter=order).clip(max=len(ids) - 1)]
    unknown = np.flatnonzero(ids[positions] != named).tolist()
    if unknown:
        first = unknown[0]
        raise DataError(
            f'{where}: annotation {objects[first]["id"]} has {field} {named[first]}; "{table}" has no such id',
            f"unknown-{field.removesuffix('_id')}",
            "annotation",
            [objects[index]["id"] for index in unknown],
        )
    return positions


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
