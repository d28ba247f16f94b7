"""The detections in a COCO results file, which any program may have written."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.errors import DataError
from retinanet.evaluation.category_references import MEANINGS, UNKNOWN, class_labels
from retinanet.evaluation.coco_metrics import images_of
from retinanet.evaluation.image_references import SEVERAL, image_indices
from retinanet.io.size_limits import read_bytes
from retinanet.messages import kind_of, one_line, shortened

LARGEST = 1e100  # pixels, or a score; so that areas are finite
MAX_BYTES = 2**32  # 500,000 detections take 70 MB
BEYOND = 0.05  # of an image's side, by which a box in pixels seldom reaches beyond it
EXPECTED = "expected a list of detections, each with image_id, category_id, bbox [x, y, width, height] and score"


@dataclass(frozen=True)
class ResultsFile:
    """A JSON list of detections: image_id, category_id, bbox (x, y, width, height in pixels) and score.

    classes_from: None if category_id is an id of the data, or 0 or 1 if it is the place of a class, counted from there.
    """

    path: Path
    classes_from: int | None = None

    def __post_init__(self) -> None:
        if self.classes_from not in MEANINGS:
            raise ValueError(f"classes_from is {self.classes_from}, expected None, 0 or 1")


def is_results_file(path: str | Path) -> bool:
    """Whether `path` has the suffix of a results file."""
    return Path(path).suffix.lower() == ".json" and not Path(path).is_dir()


class LeftOut:
    """The detections that do not fit, each with its first reason."""

    def __init__(self) -> None:
        self.indices: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, index: int, reason: str, entry: Any, *fields: str) -> None:
        """Leave out `entry`, of index `index`. fields: the first of them that it has is shown as an example."""
        if index in self.indices:
            return
        self.indices.add(index)
        self.counts[reason] += 1
        if reason not in self.examples:
            field = next((field for field in fields if field in entry), None)
            value = shortened(entry if field is None else entry[field])
            self.examples[reason] = f"{value if field is None else f'{field} {value}'} in [{index}]"

    def reasons(self, total: int) -> list[str]:
        """One for each reason, with its count of `total` detections and the first of them."""
        return [
            f"{count:,} of {total:,} detections {reason}, such as {self.examples[reason]}"
            for reason, count in self.counts.items()
        ]


def read_results(file: ResultsFile, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """The detections of `file` in the images of `dataset`: (D, 7), columns image index, x, y, w, h, score, label.

    Those that do not fit the data are left out with a note for each reason; the others keep their order.
    Raises: DataError if the file is no list of detections, none of them fits, or their category ids seem to mean
        something else than `file.classes_from` says.
    """
    path, entries, left_out = file.path, _entries(file.path), LeftOut()
    for index, entry in enumerate(entries):
        if (fault := _fault(entry)) is not None:
            left_out.add(index, *fault)
    objects = [entry if isinstance(entry, dict) else {} for entry in entries]
    images, notes = image_indices(objects, dataset)
    for index in np.flatnonzero(images < 0).tolist():
        several = images[index] == SEVERAL
        reason = "are of an image whose name several have" if several else "are of no image of the data"
        left_out.add(index, reason, objects[index], "file_name", "image_id")
    kept = np.array([index for index in range(len(entries)) if index not in left_out.indices], int)
    numbers = [[*objects[index]["bbox"], objects[index]["score"], 0] for index in kept.tolist()]
    rows = np.column_stack([images[kept], np.array(numbers, np.float64).reshape(-1, 6)])
    categories = [objects[index].get("category_id") for index in kept.tolist()]
    labels = class_labels(categories, file.classes_from, rows, dataset, path)
    for index in kept[labels == UNKNOWN].tolist():
        left_out.add(index, "are of no class of the data", objects[index], "category_id")
    rows[:, 6] = labels
    rows, reasons = rows[labels != UNKNOWN], left_out.reasons(len(entries))
    if entries and not len(rows):
        raise DataError(f"{path}: no detection fits the data: {'; '.join(reasons)}; {_fitting(dataset)}")
    notes += [f"{reason}; they do not count" for reason in reasons] + _box_warning(rows, dataset)
    return rows, [f"{path}: {note}" for note in (notes if entries else ["holds no detections"])]


def _entries(path: Path) -> list[Any]:
    try:
        document = json.loads(read_bytes(path, MAX_BYTES, DataError))
    except RecursionError:
        raise DataError(f"{path}: is nested too deeply; {EXPECTED}") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {one_line(error)}; {EXPECTED}") from None
    if isinstance(document, list):
        return document
    fields = f" with {', '.join(document)[:100]}" if isinstance(document, dict) and document else ""
    hint = "; the config of --data names annotations" if "annotations" in fields else ""
    raise DataError(f"{path}: is {kind_of(document)}{fields}; {EXPECTED}{hint}")


def _fault(entry: Any) -> tuple[Any, ...] | None:
    """What makes a detection useless in any data set, as the arguments of `LeftOut.add`, or None."""
    if not isinstance(entry, dict):
        return "are no objects", entry
    box, score = entry.get("bbox"), entry.get("score")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return "have no bbox of four numbers", entry, "bbox"
    if not _is_number(score):
        return "have no number as score", entry, "score"
    if not all(map(_is_finite, box)):
        return "have a bbox that is not finite", entry, "bbox"
    if not _is_finite(score):
        return "have a score that is not finite", entry, "score"
    return ("have a negative width or height", entry, "bbox") if min(box[2:]) < 0 else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_finite(number: Any) -> bool:
    return abs(number) < LARGEST  # False for NaN


def _fitting(dataset: Dataset) -> str:
    """Which images and classes would fit, in words; the data may have none."""
    images = f"image_id such as {dataset.image_ids[0]} or {dataset.files[0]!r}" if len(dataset) else "images"
    ids, names = list(dataset.category_ids)[:10], ", ".join(dataset.classes)[:100]
    return f"expected {images}, and category_id such as {', '.join(map(str, ids))}, or its name: {names}"


def _box_warning(rows: np.ndarray, dataset: Dataset) -> list[str]:
    """A warning if most boxes of `rows` (D, 7) reach far beyond their images, as those of another format do."""
    height, width = dataset.sizes[images_of(rows)].T
    beyond = (rows[:, 1] + rows[:, 3] > (1 + BEYOND) * width) | (rows[:, 2] + rows[:, 4] > (1 + BEYOND) * height)
    if beyond.sum() <= len(rows) / 2:
        return []
    first = rows[beyond.argmax(), 1:5].tolist()
    return [
        f"warning: {beyond.sum():,} of {len(rows):,} boxes reach beyond their images, such as {first}; "
        "bbox is x, y, width and height in pixels of the original image"
    ]
