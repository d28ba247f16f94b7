"""Reads COCO's annotation JSON."""

import json
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retinanet.data.formats.build import RawColumns, check_relative, header_sizes
from retinanet.data.formats.files import ROOT
from retinanet.errors import MOST_OF_A_PART, DataError, Faults
from retinanet.io.size_limits import read_bytes
from retinanet.messages import kind_of, one_line

MAX_BYTES = 2**33  # of an annotation file; Objects365: 5 GB
MISSING = object()

# without polygons, two thirds of train2017, parsing takes half the time and memory; quotes in JSON strings are escaped,
# so `"segmentation":` is always a key
POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[^"{}]*\]')
WHOLE = re.compile(r"-?[0-9]{1,19}(\.0+)?")  # an integer that some tools write as text
FIRST = 5  # images that tell which folder is theirs


def read_coco(images: Path | Sequence[Path], annotations: Path) -> RawColumns:
    """The images with the boxes of a COCO JSON file; labels follow ascending category ids.

    Ids and sizes may be text, such as "7", or 7.0. An annotation without id gets one after the largest, and one with
    polygons but without bbox gets the polygons' bounding box.

    images: their folder, or folders, of which the first that has some of the first images counts, else folder 0.
    Raises: DataError if a path is missing or a file invalid.
    """
    folders = [images] if isinstance(images, Path) else images
    if not annotations.exists():
        raise DataError(f"{annotations}: no such annotation file; {ROOT}")
    pictures, objects, categories = _tables(annotations)
    objects.number_nameless()
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
        if not faults.count:
            folder, files = _image_files(folders, files)
    sizes = _annotated_sizes(pictures, faults)
    with faults:
        annotation_ids = objects.unique_ids()
    with faults:
        _add_boxes(objects, annotations)
        boxes = objects.column("bbox", _is_box, "4 numbers, [x, y, width, height]")
    with faults:
        areas = objects.column("area", lambda area: area is None or _is_number(area), "a number", None)
    with faults:
        crowd = objects.column("iscrowd", lambda crowd: crowd in (0, 1, "0", "1"), "0 or 1", 0)
    faults.raise_if_any()
    return RawColumns(
        source=annotations.name,
        names=[names[index] for index in ascending],
        category_ids=category_ids[ascending].tolist(),
        folder=folder,
        files=files,
        image_ids=image_ids,
        sizes=header_sizes(folder, files) if sizes is None else sizes,
        sizes_annotated=sizes is not None,
        image_index=image_index,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        areas=np.array(areas, np.float64),  # None becomes NaN
        labels=labels,
        crowd=np.array([int(each) for each in crowd], bool),
        annotation_ids=annotation_ids,
    )


def read_image_ids(annotations: Path) -> dict[str, int]:
    """The id of each image that a COCO file names, by its file_name with slashes. Raises: DataError."""
    [pictures] = _tables(annotations, ("images",))
    names = [name.replace("\\", "/") for name in pictures.column("file_name", _is_text, "a string")]
    return dict(zip(names, pictures.unique_ids().tolist(), strict=True))


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

    def integers(self, field: str) -> np.ndarray:
        """(N,) int64, one field of each entry. Raises: as `column`."""
        return np.array([whole_number(value) for value in self.column(field, _is_whole, "an integer")], np.int64)

    def number_nameless(self) -> None:
        """Give the entries without id the numbers after the largest."""
        if nameless := [entry for entry in self.entries if entry.get("id") is None]:
            largest = max((whole_number(entry["id"]) or 0 for entry in self.entries if "id" in entry), default=0)
            for number, entry in enumerate(nameless, max(largest, 0) + 1):
                entry["id"] = number

    def unique_ids(self) -> np.ndarray:
        ids = self.integers("id")
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
        named = self.integers(field)
        order = np.argsort(ids)
        positions = order[np.searchsorted(ids, named, sorter=order).clip(max=len(ids) - 1)]
        wrong = np.flatnonzero(ids[positions] != named)
        if len(wrong):
            annotations = [whole_number(self.entries[index].get("id")) or index for index in wrong.tolist()]
            raise DataError(
                f'{self.file}: annotation {annotations[0]} has {field} {named[wrong[0]]}; "{table}" has no such id',
                f"unknown-{field.removesuffix('_id')}",
                "annotation",
                annotations,
            )
        return positions


def _annotated_sizes(pictures: _Table, faults: Faults) -> np.ndarray | None:
    """(N, 2) int64 height and width; None if an image has none, or one at fault, which is added to `faults`."""
    if not all(picture.get("height") and picture.get("width") for picture in pictures.entries):
        return None
    sides = []
    for side in ("height", "width"):
        with faults:
            sides.append(pictures.column(side, _is_side, "a number >= 1"))
    return np.array(sides).T.astype(np.float64).astype(np.int64) if len(sides) == 2 else None


def _image_files(folders: Sequence[Path], files: list[str]) -> tuple[Path, list[str]]:
    """The folder of the images, and their paths in it, where Windows' backslashes may stand for slashes."""
    first = [file.replace("\\", "/") for file in files[:FIRST]] + files[:FIRST]
    folder = next((each for each in folders if any(os.path.isfile(each / file) for file in first)), folders[0])
    if not folder.exists():
        raise DataError(f"{folder}: no such image folder; {ROOT}")
    return folder, [
        file.replace("\\", "/") if "\\" in file and not os.path.isfile(folder / file) else file for file in files
    ]


def _add_boxes(objects: _Table, annotations: Path) -> None:
    """Give the annotations without bbox the bounding box of their polygons, for which the file is read again."""
    boxless = [index for index, entry in enumerate(objects.entries) if not entry.get("bbox")]
    if boxless:
        whole = _load(annotations, polygons=True)["annotations"]
        for index in boxless:
            if (box := _box_around(whole[index].get("segmentation"))) is not None:
                objects.entries[index]["bbox"] = box


def _box_around(polygons: Any) -> list[float] | None:
    """x, y, width and height of lists x1, y1, x2, y2, ... of numbers, or of one such list; None for anything else."""
    lists = polygons if isinstance(polygons, list) and polygons and isinstance(polygons[0], list) else [polygons]
    if not all(isinstance(each, list) and len(each) >= 6 and len(each) % 2 == 0 for each in lists):
        return None
    xs, ys = ([value for each in lists for value in each[start::2]] for start in (0, 1))
    if not all(map(_is_number, (*xs, *ys))):
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _tables(annotations: Path, names: Sequence[str] = ("images", "annotations", "categories")) -> list[_Table]:
    """The lists of images, annotations and categories of a COCO file, or those of `names`."""
    file, document = annotations.name, _load(annotations)
    tables, faults = [], Faults()
    for name in names:
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


def _load(path: Path, polygons: bool = False) -> dict[str, Any]:
    try:
        content = read_bytes(path, MAX_BYTES, DataError)
        document = json.loads(content if polygons else POLYGONS.sub(b'"segmentation":0', content))
    except RecursionError as error:
        raise DataError(f"{path}: not COCO's JSON: nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(document, dict):
        kind = "a JSON list" if isinstance(document, list) else kind_of(document)
        raise DataError(f"{path}: is {kind}; expected an object with COCO's images, annotations and categories")
    return document


def _abridged(value: Any) -> str:
    try:
        return textwrap.shorten(json.dumps(value), 80)
    except RecursionError:
        return "lists in lists"


def whole_number(value: Any) -> int | None:
    """The integer that `value` is, as in 7, 7.0, "7" and "7.0"; None if it is none."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    return int(value.partition(".")[0]) if type(value) is str and WHOLE.fullmatch(value) else None


def _is_whole(value: Any) -> bool:
    return _is_integer(whole_number(value))


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


def _is_side(value: Any) -> bool:
    number = whole_number(value) if type(value) is str else value
    return number is not None and _is_number(number) and 1 <= number < 2**31


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return type(value) is str and value.encode("utf-8", "ignore").decode() == value  # no unpaired surrogates
