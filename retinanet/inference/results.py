"""Detections as a JSON document or in COCO's results format."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retinanet.detections import Detections
from retinanet.inference.detector import Detector
from retinanet.inference.predict import Prediction


def to_json(predictions: Sequence[Prediction], detector: Detector) -> dict[str, Any]:
    """The JSON document: detections of each file, best first, in xyxy pixels, and faults of unreadable files."""
    images = []
    for item in predictions:
        if item.fault is None:
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
            images.append({"file": str(item.file), "width": width, "height": height, "detections": detections})
    return {"images": images, "faults": [item.fault for item in predictions if item.fault is not None]}


def to_coco(predictions: Sequence[Prediction], detector: Detector) -> list[dict[str, Any]]:
    """COCO's results format with file names; image ids number the readable files from 1."""
    readable = [item for item in predictions if item.fault is None]
    return [
        result | {"file_name": str(item.file)}
        for index, item in enumerate(readable)
        for result in coco_results(
            coco_rows(item.detections, index), range(1, len(readable) + 1), detector.category_ids
        )
    ]


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
