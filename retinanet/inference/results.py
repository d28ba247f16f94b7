"""Detections as a JSON document or in COCO's results format."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from retinanet.detections import Detections
from retinanet.errors import DataError
from retinanet.inference.detector import Detector
from retinanet.inference.predict import Prediction


def to_json(predictions: Sequence[Prediction], detector: Detector) -> dict[str, Any]:
    """The JSON document: detections of each file, best first, in xyxy pixels, and faults of unreadable files."""
    images = [image_document(item, detector) for item in predictions if item.fault is None]
    return {"images": images, "faults": [item.fault for item in predictions if item.fault is not None]}


def image_document(item: Prediction, detector: Detector) -> dict[str, Any]:
    """A file and its detections, best first, in xyxy pixels; or the fault why it cannot be read."""
    if item.fault is not None:
        return {"file": str(item.file), "fault": item.fault}
    d, (height, width) = item.detections, item.size
    detections = [
        {
            "label": detector.classes[label],
            "category_id": detector.category_ids[label],
            "score": round(score, 5),
            "box": [round(x, 3) for x in box],
        }
        for label, score, box in zip(d.labels.tolist(), d.scores.tolist(), d.boxes.tolist(), strict=True)
    ]
    return {"file": str(item.file), "width": width, "height": height, "detections": detections}


def to_coco(
    predictions: Sequence[Prediction], detector: Detector, image_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """COCO's results format with file names. image_ids: of each file; None: numbers of the readable files from 1."""
    readable = [index for index, item in enumerate(predictions) if item.fault is None]
    ids = range(1, len(readable) + 1) if image_ids is None else [image_ids[index] for index in readable]
    return [
        result | {"file_name": str(predictions[index].file)}
        for index, image_id in zip(readable, ids, strict=True)
        for result in coco_results(coco_rows(predictions[index].detections, 0), [image_id], detector.category_ids)
    ]


def match_image_ids(files: Sequence[Path], ids: Mapping[str, int], source: str | Path) -> list[int]:
    """The id of each file. ids: of a data set's images, by file name, which may start with folders.

    A file has the longest name that its path ends with, or else the only one with the same last part.

    source: the file that `ids` is from, for messages. Raises: DataError for a file without an id, or two with one id.
    """
    by_last_part: dict[str, list[str]] = {}
    for name in ids:
        by_last_part.setdefault(PurePosixPath(name).name, []).append(name)
    found: dict[int, Path] = {}
    for file in files:
        path = f"/{file.absolute().as_posix()}"
        names = by_last_part.get(file.name, [])
        if fitting := [name for name in names if path.endswith(f"/{name}")]:
            names = [max(fitting, key=len)]
        if not names:
            raise DataError(f"{file}: {source} has no image of this name")
        if len(names) > 1:
            raise DataError(f"{file}: {source} has several images of this name, such as {names[0]} and {names[1]}")
        if (image_id := ids[names[0]]) in found:
            raise DataError(f"{file}: has the same id {image_id} in {source} as {found[image_id]}; name one of them")
        found[image_id] = file
    return list(found)


def coco_rows(detections: Detections, index: int) -> np.ndarray:
    """Detections of image `index` as (D, 7) float64: index, x, y, w, h, score, label.

    Ids would not do: float64 holds integers only up to 2^53.
    """
    low, high = np.hsplit(detections.boxes.astype(np.float64), 2)
    return np.column_stack(
        (np.full(len(low), index, np.float64), low, high - low, detections.scores, detections.labels)
    )


def coco_results(rows: np.ndarray, image_ids: Sequence[int], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of `coco_rows` in COCO's results format, without rounding. image_ids, category_ids: by index and label."""
    return [
        {
            "image_id": image_ids[int(index)],
            "category_id": category_ids[int(label)],
            "bbox": box,
            "score": score,
        }
        for index, *box, score, label in rows.tolist()
    ]
