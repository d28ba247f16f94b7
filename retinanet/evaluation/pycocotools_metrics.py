"""The 12 COCO numbers by pycocotools, COCO's own program."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from retinanet.data.dataset import Dataset


def pycocotools_stats(dataset: Dataset, results: np.ndarray) -> list[float]:
    """The 12 numbers of `results` on `dataset` in pycocotools' order, -1 where no object falls into the range.

    Takes over a minute for 500,000 detections.

    Args:
        results: (D, 7) float64, columns image_id, x, y, w, h, score, category_id.
    """
    sizes, image_ids = dataset.sizes.tolist(), dataset.image_ids.tolist()
    owners = dataset.image_ids[dataset.image_index].tolist()
    # annotations are numbered anew: pycocotools takes what is matched to annotation 0 for unmatched
    objects = zip(owners, dataset.labels, dataset.boxes.tolist(), dataset.areas.tolist(), dataset.crowd, strict=True)
    truth, found = COCO(), COCO()
    truth.dataset = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in zip(image_ids, sizes, strict=True)],
        "categories": [{"id": i, "name": name} for i, name in zip(dataset.category_ids, dataset.classes, strict=True)],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": dataset.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, label, box, area, crowd) in enumerate(objects, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if len(results):  # loadRes fails on none
            found = truth.loadRes(results)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()
