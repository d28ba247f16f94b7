"""Which image of a data set a detection is of, by its file name or by a number."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.data.formats.coco import whole_number

UNKNOWN, SEVERAL = -1, -2  # in place of an image's index


class ImageNames:
    """Finds images by file name, with or without folders and suffix."""

    def __init__(self, files: Sequence[str]):
        self.paths = [_path(file) for file in files]
        self.by_name: dict[str, list[int]] = {}
        self.by_stem: dict[str, list[int]] = {}
        for index, path in enumerate(self.paths):
            self.by_name.setdefault(path.name, []).append(index)
            self.by_stem.setdefault(path.stem, []).append(index)
        self.found: dict[str, int] = {}

    def find(self, name: str) -> int:
        """The index of the only image that fits; of several, the one with the most folders in common; else UNKNOWN or
        SEVERAL."""
        if name not in self.found:
            self.found[name] = self._search(_path(name))
        return self.found[name]

    def by_number(self) -> dict[int, int]:
        """The index of each image whose stem is a number that no other image has, by this number."""
        numbers = [(whole_number(stem), indices) for stem, indices in self.by_stem.items()]
        indices_of: dict[int, list[int]] = {}
        for number, indices in numbers:
            if number is not None:
                indices_of.setdefault(number, []).extend(indices)
        return {number: indices[0] for number, indices in indices_of.items() if len(indices) == 1}

    def _search(self, path: PurePosixPath) -> int:
        indices = self.by_name.get(path.name) or self.by_stem.get(path.name) or []
        if len(indices) > 1:
            common = [_common_folders(self.paths[index], path) for index in indices]
            indices = [index for index, folders in zip(indices, common, strict=True) if folders == max(common)]
        return UNKNOWN if not indices else indices[0] if len(indices) == 1 else SEVERAL


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _common_folders(one: PurePosixPath, other: PurePosixPath) -> int:
    """The number of folders, from the last on, that two paths have in common."""
    common = 0
    for folder, same in zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False):
        if folder != same:
            break
        common += 1
    return common


def image_indices(entries: Sequence[Mapping[str, Any]], dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """(D,) int64 index of the image of each detection, UNKNOWN or SEVERAL; and notes, one line each.

    `file_name` decides where an entry has one, else `image_id`: a file name, or a number. Whether numbers are
    ids or file names is decided for all alike, by which of the two fits more of them. Of two that fit as many, ids
    decide, but in data without ids (Pascal VOC, YOLO) file names do.
    """
    names = ImageNames([dataset.files[index] for index in range(len(dataset))])
    indices = np.full(len(entries), UNKNOWN)
    numbers: dict[int, int] = {}  # of the entries that only a number can find
    for place, entry in enumerate(entries):
        if isinstance(name := entry.get("file_name"), str):
            indices[place] = names.find(name)
            continue
        image_id = entry.get("image_id")
        if (number := whole_number(image_id)) is not None:
            numbers[place] = number
        elif isinstance(image_id, str):
            indices[place] = names.find(image_id)
    by_id, by_file = ("id", dataset.index_of_id), ("file name", names.by_number())
    first, second = (by_id, by_file) if dataset.image_ids_annotated else (by_file, by_id)
    chosen, notes = _choose(set(numbers.values()), first, second, dataset)
    for place, number in numbers.items():
        image_id = entries[place]["image_id"]
        if number in chosen:
            indices[place] = chosen[number]
        elif isinstance(image_id, str):  # such as 0139, beside an image that is named 139
            indices[place] = names.find(image_id)
    return indices, notes


def _choose(
    numbers: set[int], first: tuple[str, dict[int, int]], second: tuple[str, dict[int, int]], dataset: Dataset
) -> tuple[dict[int, int], list[str]]:
    """Which of two meanings the `numbers` have, each a name and the index of the image by number; and notes."""
    (name, meaning), (other_name, other) = first, second
    known, known_otherwise = len(numbers & meaning.keys()), len(numbers & other.keys())
    if known_otherwise > known:
        note = (
            f"image_id is read as {other_name}, which fits {known_otherwise:,} of {len(numbers):,} numbers; as {name}"
        )
        return other, [f"{note}, it fits {known:,}"]
    differ = sorted(n for n in numbers & meaning.keys() & other.keys() if meaning[n] != other[n])
    if not differ or known_otherwise < known:
        return meaning, []
    files = [dataset.files[each[differ[0]]] for each in (meaning, other)]
    note = f"image_id {differ[0]} is {files[0]} by {name} and {files[1]} by {other_name}; it is read as {name}"
    return meaning, [f"warning: {note}"]
