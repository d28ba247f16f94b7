"""Builds a validated `Dataset` from the columns of an annotation file."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from retinanet.data.dataset import Dataset, Fault, Skipped, Strings
from retinanet.data.images import MAX_PIXELS, image_size
from retinanet.errors import DataError, Faults

FARTHEST = 2**31  # pixels; larger coordinates are mistakes
MAX_NAME = 4096  # characters of a path on Linux


@dataclass(frozen=True)
class RawColumns:
    """N images and M objects of K classes, as annotated; other fields as in `Dataset`, of any integer type.

    source: name of the annotations in notes. names: K. sizes: `header_sizes` if not annotated.
    image_index: (M,), index of each object's image. areas: NaN where not annotated. labels: (M,), index into `names`.
    """

    source: str
    names: Sequence[str]
    category_ids: Sequence[int]
    folder: Path
    files: Sequence[str]
    image_ids: np.ndarray
    sizes: np.ndarray
    sizes_annotated: bool
    image_index: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    annotation_ids: np.ndarray
    label_files: Sequence[str] | None = None
    image_ids_annotated: bool = True


def build_dataset(raw: RawColumns, classes: Sequence[str] | None) -> Dataset:
    """The data set with objects sorted by image and invalid boxes skipped with a note.

    classes: the names to keep, in their new order; None: all.
    Raises: DataError if `classes` has an unknown or repeated name.
    """
    names, category_ids, labels = raw.names, raw.category_ids, raw.labels
    if classes is not None:
        if len(set(classes)) < len(classes):
            raise DataError(f"{raw.source}: data.classes has a name twice: {', '.join(classes)}")
        if unknown := [name for name in classes if name not in names]:
            nearest = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0)  # none if there are no classes
            hint = "".join(f'; the nearest is "{name}"' for name in nearest)
            raise DataError(f'{raw.source}: has no class "{unknown[0]}"{hint}')
        if twice := [name for name in classes if list(names).count(name) > 1]:
            ids = [i for i, name in zip(category_ids, names, strict=True) if name == twice[0]]
            raise DataError(
                f'{raw.source}: has {len(ids)} categories named "{twice[0]}", with the ids {ids}; data.classes needs '
                "names that differ"
            )
        kept = [names.index(name) for name in classes]
        new_labels = np.full(len(names), -1)
        new_labels[kept] = np.arange(len(kept))
        labels = new_labels[labels]
        names, category_ids = classes, [category_ids[index] for index in kept]

    good, notes, skipped = _check_boxes(raw, chosen=labels >= 0)
    order = np.flatnonzero(good)
    order = order[np.argsort(raw.image_index[order], kind="stable")]
    boxes, areas = raw.boxes[order], raw.areas[order]
    return Dataset(
        classes=tuple(names),
        category_ids=tuple(category_ids),
        folder=raw.folder,
        files=Strings(raw.files),
        image_ids=raw.image_ids.astype(np.int64),
        sizes=raw.sizes.astype(np.int32),
        sizes_annotated=raw.sizes_annotated,
        first_object=np.searchsorted(raw.image_index[order], np.arange(len(raw.files) + 1)),
        boxes=boxes,
        areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
        labels=labels[order].astype(np.int32),
        crowd=raw.crowd[order].astype(bool),
        annotation_ids=raw.annotation_ids[order].astype(np.int64),
        label_files=None if raw.label_files is None else Strings(raw.label_files),
        image_ids_annotated=raw.image_ids_annotated,
        notes=notes,
        skipped=skipped,
    )


def header_sizes(folder: Path, files: Sequence[str]) -> np.ndarray:
    """(N, 2) int height and width of the images, EXIF applied. Raises: DataError for each unreadable header."""
    sizes, faults = [], Faults()
    for file in files:
        with faults:
            sizes.append(image_size(folder / file, max_pixels=MAX_PIXELS))
    faults.raise_if_any()
    return np.array(sizes, np.int64).reshape(-1, 2)


def check_relative(file: str, where: str) -> None:
    """Raises: DataError if `file` may lie outside the image folder on any operating system."""
    path = PureWindowsPath(file)
    if path.anchor or ".." in path.parts or not path.parts or "\0" in file or len(file) > MAX_NAME:
        raise DataError(
            f'{where} has the file name "{file:.200}"; expected a path inside the image folder, without ".."'
        )


def _check_boxes(raw: RawColumns, chosen: np.ndarray) -> tuple[np.ndarray, list[str], list[Skipped]]:
    """(M,) bool, which of the objects `chosen` (M,) have a valid box; a note and a record for each kind of fault."""
    finite = (np.abs(raw.boxes) < FARTHEST).all(axis=1)  # False for NaN
    x, y, w, h = np.where(finite[:, None], raw.boxes, 0).T
    height, width = raw.sizes[raw.image_index].T
    area = (w > 0) & (h > 0)
    inside = (x < width) & (y < height) & (x + w > 0) & (y + h > 0)

    def box(i: int) -> str:
        return f"has the box {raw.boxes[i].tolist()}"

    def flat_side(i: int) -> str:
        side, pixels = ("width", w[i]) if w[i] <= 0 else ("height", h[i])
        return f"has {side} {pixels:g}; boxes need {side} > 0"

    faults: list[tuple[Fault, np.ndarray, Callable[[int], str]]] = [
        ("not-finite", ~finite, lambda i: f"{box(i)}; boxes need finite numbers, below 2^31"),
        ("no-area", finite & ~area, flat_side),
        ("outside", finite & area & ~inside, lambda i: f"{box(i)}, outside its {width[i]} x {height[i]} pixels"),
    ]
    notes, skipped = [], []
    for fault, bad, describe in faults:
        if len(rows := np.flatnonzero(chosen & bad)):
            images = raw.image_index[rows]
            first, *rest = rows.tolist()
            ids = [str(raw.annotation_ids[i]) for i in rest[:3]] + ["..."] * (len(rest) > 3)
            notes.append(
                f"{raw.source}: annotation {raw.annotation_ids[first]} (image {raw.image_ids[images[0]]}, "
                f'"{raw.files[images[0]]}") {describe(first)}. It was skipped'
                + (f"; {len(rest)} like it ({', '.join(ids)})." if rest else ".")
            )
            files = Strings(raw.files[index] for index in images.tolist())
            fractions = raw.boxes[rows] / raw.sizes[images][:, [1, 0, 1, 0]]
            skipped.append(Skipped(fault, raw.annotation_ids[rows], fractions, files))
    return chosen & finite & area & inside, notes, skipped
