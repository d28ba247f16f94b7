"""Detections as a JSON document or in COCO's results format."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retinanet.detections import Detections
from retinanet.inference.detector import Detector
from retinanet.inference.predict import Prediction


def to_json(predictions: Sequence[Prediction], detector: Detector) -> dict[str, Any]:
    """The JSON document: detections of each file, best first, in xyxy pixels, and faults of unreadable files."""
    images = [
        {
            "file": str(item.file),
            "width": item.size[1],
            "height": item.size[0],
            "detections": [
                {
                    "label": detector.classes[label],
                    "category_id": detector.category_ids[label],
                    "score": round(score, 5),
                    "box": [round(x, 3) for x in box],
                }
                for label, score, box in zip(
                    item.detections.labels.tolist(),
                    item.detections.scores.tolist(),
                    item.detections.boxes.tolist(),
                    strict=True,
                )
            ],
        }
        for item in predictions
        if item.fault is None
    ]
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
    boxes = detections.boxes.astype(np.float64)
    rows = np.empty((len(boxes), 7))
    rows[:, 0] = image_id
    rows[:, 1:3] = boxes[:, :2]
    rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
    rows[:, 5] = detections.scores
    rows[:, 6] = np.asarray(category_ids)[detections.labels] if len(boxes) else 0
    return rows


def coco_results(rows: np.ndarray) -> list[dict[str, Any]]:
    """Rows of `coco_rows` in COCO's results format, without rounding."""
    return [
        {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5].tolist(), "score": float(row[5])}
        for row in rows
    ]
