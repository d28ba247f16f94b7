"""From a reader's raw columns to a checked `Dataset`."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Literal

import numpy as np

from retinanet.data.dataset import Dataset, Skipped, Strings
from retinanet.data.images import LARGEST, image_size
from retinanet.errors import DataError

FARTHEST = 2**31  # pixels; what lies beyond it is a slip
MAX_NAME = 4096  # letters of a path; Linux


def build(
    *,
    source: str,
    names: Sequence[str],
    category_ids: Sequence[int],
    classes: Sequence[str] | None,
    folder: Path,
    files: Sequence[str],
    image_ids: np.ndarray,
    sizes: np.ndarray,
    sizes_annotated: bool,
    image_index: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    annotation_ids: np.ndarray,
) -> Dataset:
    """The data set of these columns: chosen classes, objects in the order of their images, no box without area.

    Args:
        source: the annotations' name in notes. names, category_ids: all K classes.
        classes: the names to keep, in their new order; None keeps all.
        sizes: (N, 2), height and width; `header_sizes` where not annotated.
        image_index: (M,), index of each object's image. boxes: (M, 4) xywh. areas: (M,), NaN where not annotated.
        labels: (M,), index into `names`.
    Raises: DataError if `classes` has an unknown name, or one twice.
    """
    if classes is not None:
        if len(set(classes)) < len(classes):
            raise DataError(f"{source}: the classes asked for, {', '.join(classes)}, name one twice")
        kept = [_index(source, names, name) for name in classes]
        new_labels = np.full(len(names), -1)
        new_labels[kept] = np.arange(len(kept))
        labels = new_labels[labels]
        names, category_ids = classes, [category_ids[index] for index in kept]

    good, notes, skipped = _good_boxes(source, files, image_ids, sizes, image_index, boxes, labels >= 0, annotation_ids)
    order = np.flatnonzero(good)
    order = order[np.argsort(image_index[order], kind="stable")]
    boxes, areas = boxes[order], areas[order]
    return Dataset(
        classes=tuple(names),
        category_ids=tuple(category_ids),
        folder=folder,
        files=Strings(files),
        image_ids=image_ids.astype(np.int64),
        sizes=sizes.astype(np.int32),
        sizes_annotated=sizes_annotated,
        first_object=np.searchsorted(image_index[order], np.arange(len(files) + 1)),
        boxes=boxes,
        areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
        labels=labels[order].astype(np.int32),
        crowd=crowd[order].astype(bool),
        annotation_ids=annotation_ids[order].astype(np.int64),
        notes=notes,
        skipped=skipped,
    )


def header_sizes(folder: Path, files: Sequence[str]) -> np.ndarray:
    """(N, 2) int, height and width of the turned images. Raises DataError if a header cannot be read."""
    return np.array([image_size(folder / file, max_pixels=LARGEST) for file in files], np.int64).reshape(-1, 2)


def without_empty(dataset: Dataset) -> Dataset:
    """The data set without the images that have no objects."""
    counts = np.diff(dataset.first_object)
    kept = np.flatnonzero(counts)
    return dataclasses.replace(
        dataset,
        files=Strings(dataset.files[index] for index in kept.tolist()),
        image_ids=dataset.image_ids[kept],
        sizes=dataset.sizes[kept],
        first_object=np.concatenate([[0], np.cumsum(counts[kept])]),
    )


def check_relative(file: str, where: str) -> None:
    """Raise DataError unless `file` stays inside the image folder, on any operating system."""
    path = PureWindowsPath(file)
    if path.anchor or ".." in path.parts or not path.parts or "\0" in file or len(file) > MAX_NAME:
        raise DataError(
            f'{where} has the file name "{file:.200}"; expected one relative to the image folder, without ".."'
        )


def _index(source: str, names: Sequence[str], name: str) -> int:
    if name in names:
        return names.index(name)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)
    hint = f'; the nearest is "{nearest[0]}"' if nearest else ""
    raise DataError(f'{source}: has no class "{name}"{hint}')


def _good_boxes(
    source: str,
    files: Sequence[str],
    image_ids: np.ndarray,
    sizes: np.ndarray,
    image_index: np.ndarray,
    boxes: np.ndarray,
    chosen: np.ndarray,
    annotation_ids: np.ndarray,
) -> tuple[np.ndarray, list[str], list[Skipped]]:
    """Which of the chosen boxes are sound, (M,) bool; a note and a record per kind of fault."""
    finite = (np.abs(boxes) < FARTHEST).all(axis=1)  # NaN is not
    x, y, w, h = np.where(finite[:, None], boxes, 0).T
    height, width = sizes[image_index].T
    area = (w > 0) & (h > 0)
    inside = (x < width) & (y < height) & (x + w > 0) & (y + h > 0)
    faults: list[tuple[Literal["not-finite", "no-area", "outside"], np.ndarray, Callable[[int], str]]] = [
        (
            "not-finite",
            chosen & ~finite,
            lambda i: f"has the box {boxes[i].tolist()}; boxes need finite numbers, below 2^31",
        ),
        (
            "no-area",
            chosen & finite & ~area,
            lambda i: (
                f"has width {w[i]:g}; boxes need width > 0"
                if w[i] <= 0
                else f"has height {h[i]:g}; boxes need height > 0"
            ),
        ),
        (
            "outside",
            chosen & finite & area & ~inside,
            lambda i: f"has the box {boxes[i].tolist()}, outside its {width[i]} x {height[i]} pixels",
        ),
    ]
    notes, skipped = [], []
    for fault, bad, describe in faults:
        if len(where := np.flatnonzero(bad)):
            first, *rest = where.tolist()
            ids = [str(annotation_ids[i]) for i in rest[:3]] + ["..."] * (len(rest) > 3)
            notes.append(
                f"{source}: annotation {annotation_ids[first]} (image {image_ids[image_index[first]]}, "
                f'"{files[image_index[first]]}") {describe(first)}. It was skipped'
                + (f"; {len(rest)} like it ({', '.join(ids)})." if rest else ".")
            )
            bad_files = Strings(files[owner] for owner in image_index[where].tolist())
            skipped.append(Skipped(fault, annotation_ids[where], image_ids[image_index[where]], bad_files))
    return chosen & finite & area & inside, notes, skipped
