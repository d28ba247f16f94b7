"""The 12 COCO metrics by pycocotools, the reference implementation."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import METRICS, numbered


def reference_metrics(dataset: Dataset, results: np.ndarray) -> dict[str, float]:
    """The 12 metrics, -1 if no object has the required size. 500,000 detections take 40 to 65 s.

    results: (D, 7) float64, columns image index, x, y, w, h, score, label.
    """
    images, classes, results = numbered(dataset, results)
    sizes, image_numbers, category_numbers = dataset.sizes.tolist(), images.tolist(), classes.tolist()
    objects = dataset.image_index, dataset.labels, dataset.boxes.tolist(), dataset.areas.tolist(), dataset.crowd
    ground_truth = COCO()
    ground_truth.dataset = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in zip(image_numbers, sizes, strict=True)],
        "categories": [{"id": i, "name": name} for i, name in zip(category_numbers, dataset.classes, strict=True)],
        "annotations": [
            {
                "id": number,  # from 1, since pycocotools treats a match with annotation 0 as no match
                "image_id": image_numbers[index],
                "category_id": category_numbers[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (index, label, box, area, crowd) in enumerate(zip(*objects, strict=True), 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        detections = ground_truth.loadRes(results) if len(results) else COCO()  # loadRes fails on an empty array
        evaluation = COCOeval(ground_truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True))
