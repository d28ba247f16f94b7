"""The 12 COCO metrics and AP per class, computed by hotcoco."""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from hotcoco import COCO, COCOeval

from retinanet.data.dataset import Dataset

# in pycocotools' order
METRICS = {
    "AP": "IoU 0.50:0.95, all sizes, 100 detections",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small, area < 32\u00b2",
    "APm": "medium, 32\u00b2 to 96\u00b2",
    "APl": "large, area > 96\u00b2",
    "AR1": "recall, 1 detection per image",
    "AR10": "recall, 10 detections per image",
    "AR100": "recall, 100 detections per image",
    "ARs": "recall, small",
    "ARm": "recall, medium",
    "ARl": "recall, large",
}
IOU = 0.5  # of a match, wherever a single threshold is needed
DETECTIONS = 100  # COCO's limit for each image and class; the highest scores count
MAX_AREA = 1e10  # square pixels; COCO ignores larger objects
FALSE_POSITIVE, NOT_COUNTED = -1, -2  # for detections without an object


@dataclass(frozen=True)
class ClassResult:
    """AP and AP50 of one class in 0..1, -1 without objects. objects: number of objects without crowds."""

    label: str
    category_id: int
    AP: float
    AP50: float
    objects: int


@dataclass(frozen=True)
class Scores:
    """metrics: name -> value in 0..1, or -1 if no object has the required size, as in pycocotools."""

    metrics: dict[str, float]
    per_class: list[ClassResult]


def measured(value: float) -> float | None:
    """The value of a metric, or None where COCO's -1 stands for a number that no object defines."""
    return None if value < 0 else value


def images_of(results: np.ndarray) -> np.ndarray:
    """(D,) int64 image index 0..N-1 of each row of `results` (D, 7)."""
    return results[:, 0].astype(np.int64)


def labels_of(results: np.ndarray) -> np.ndarray:
    """(D,) int64 label 0..K-1 of each row of `results` (D, 7)."""
    return results[:, 6].astype(np.int64)


def numbered(dataset: Dataset, results: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images as 1..N and the classes as 1..K, both by ascending id, and `results` (D, 7) with these numbers.

    The order of the ids decides ties; the ids themselves may be negative, which hotcoco rejects, or beyond float64.
    """
    images = 1 + np.argsort(np.argsort(dataset.image_ids, kind="stable"))
    classes = 1 + hotcoco_index(dataset)
    rows = results.copy()
    rows[:, 0], rows[:, 6] = images[images_of(results)], classes[labels_of(results)]
    return images, classes, rows


def ignored(areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(M,) bool: the objects that COCO's metrics ignore."""
    return crowd | (areas < 0) | (areas > MAX_AREA)


def coco_eval(dataset: Dataset, results: np.ndarray) -> COCOeval:
    """hotcoco's complete evaluation of `results` (D, 7); objects are numbered 1..M and detections 1..D."""
    numbers, category_numbers, detections = numbered(dataset, results)
    sizes = dataset.sizes.tolist()
    images = [{"id": int(i), "height": h, "width": w} for i, (h, w) in zip(numbers, sizes, strict=True)]
    categories = [
        {"id": i, "name": dataset.classes[label]} for i, label in enumerate(np.argsort(dataset.category_ids), 1)
    ]
    ground_truth = COCO.from_arrays(
        images,
        categories,
        numbers[dataset.image_index],
        category_numbers[dataset.labels],
        dataset.boxes,
        ids=np.arange(1, len(dataset.boxes) + 1),
        area=dataset.areas,
        iscrowd=dataset.crowd.astype(np.int64),
    )
    evaluation = COCOeval(ground_truth, ground_truth.load_res(detections), "bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # summarize prints its table
        evaluation.run()
    return evaluation


def hotcoco_index(dataset: Dataset) -> np.ndarray:
    """(K,) position of each label in hotcoco's arrays, which are sorted by category id."""
    return np.argsort(np.argsort(dataset.category_ids))


def score(dataset: Dataset, results: np.ndarray) -> Scores:
    """The COCO metrics of `results` (D, 7) on `dataset`, equal to pycocotools' to the last bit."""
    evaluation = coco_eval(dataset, results)
    assert evaluation.eval is not None
    # (IoU, recall, K) at all areas, 100 detections; -1 everywhere for a class without objects, and so is its mean
    precision = evaluation.eval["precision"][:, :, hotcoco_index(dataset), 0, -1]
    counts = np.bincount(dataset.labels[~dataset.crowd], minlength=len(dataset.classes)).tolist()
    per_class = [
        ClassResult(label, category_id, float(curves.ravel().mean()), float(curves[0].mean()), objects)
        for label, category_id, curves, objects in zip(
            dataset.classes, dataset.category_ids, np.moveaxis(precision, 2, 0), counts, strict=True
        )
    ]
    return Scores({name: float(value) for name, value in zip(METRICS, evaluation.stats, strict=True)}, per_class)


def matched_objects(evaluation: COCOeval, detections: int) -> np.ndarray:
    """The object that COCO's greedy matching at IoU 0.5 assigns to each of the `detections` of `evaluation`.

    Returns: (D,) int64, index 0..M-1, or FALSE_POSITIVE; NOT_COUNTED for a detection on a crowd or beyond the 100 best
        of its image and class.
    """
    diagnostics = evaluation.image_diagnostics(iou_thr=IOU, score_thr=2)  # 2: no search for wrong annotations
    matched = np.full(detections, NOT_COUNTED)
    matched[np.fromiter(diagnostics["dt_status"], np.int64, len(diagnostics["dt_status"])) - 1] = FALSE_POSITIVE
    pairs = np.array(list(diagnostics["dt_match"].items()), np.int64).reshape(-1, 2)
    matched[pairs[:, 0] - 1] = pairs[:, 1] - 1
    return matched
