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
        for image_id, item in enumerate(readable, 1)
        for result in coco_results(coco_rows(item.detections, image_id, detector.category_ids))
    ]


def coco_rows(detections: Detections, image_id: int, category_ids: tuple[int, ...]) -> np.ndarray:
    """Detections of one image as (D, 7) float64: image_id, x, y, w, h, score, category_id."""
    low, high = np.hsplit(detections.boxes.astype(np.float64), 2)
    images = np.full(len(low), image_id, np.float64)
    categories = np.asarray(category_ids, np.float64)[detections.labels]
    return np.column_stack((images, low, high - low, detections.scores, categories))


def coco_results(rows: np.ndarray) -> list[dict[str, Any]]:
    """Rows of `coco_rows` in COCO's results format, without rounding."""
    return [
        {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5].tolist(), "score": float(row[5])}
        for row in rows
    ]
