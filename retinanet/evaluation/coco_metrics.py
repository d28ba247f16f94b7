"""The 12 COCO metrics and AP per class, computed by hotcoco."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
CLASSES_AT_ONCE = 128  # whose curves at all sizes and limits are in memory, 97 kB each


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
    """hotcoco's evaluation of `results` (D, 7), not yet run; objects are numbered 1..M and detections 1..D."""
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
    return COCOeval(ground_truth, ground_truth.load_res(detections), "bbox")


def hotcoco_index(dataset: Dataset) -> np.ndarray:
    """(K,) position of each label in hotcoco's arrays, which are sorted by category id."""
    return np.argsort(np.argsort(dataset.category_ids))


def accumulated(evaluation: COCOeval, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Precision (IoU, recall, k, area) at 100 detections and recall (IoU, k, area, limit) of k classes after another.

    The order of all classes is that of `hotcoco_index`. -1 for a class without objects.
    """
    for start in range(0, classes, CLASSES_AT_ONCE):
        evaluation.params.cat_ids = list(range(1 + start, 1 + min(start + CLASSES_AT_ONCE, classes)))
        evaluation.evaluate()
        evaluation.accumulate()
        assert evaluation.eval is not None
        yield evaluation.eval["precision"][..., -1], evaluation.eval["recall"]


def score(dataset: Dataset, results: np.ndarray) -> Scores:
    """The COCO metrics of `results` (D, 7) on `dataset`, equal to pycocotools' to the last bit."""
    index = hotcoco_index(dataset)
    precisions: list[list[np.ndarray]] = [[] for _ in range(4)]  # of each area, (IoU, recall, classes with objects)
    recalls: list[np.ndarray] = []
    aps: list[tuple[float, float]] = []  # AP and AP50
    for precision, recall in accumulated(coco_eval(dataset, results), len(index)):
        recalls.append(recall)
        for area, parts in enumerate(precisions):
            parts.append(precision[:, :, precision[0, 0, :, area] > -1, area])
        # a class without objects has -1 everywhere, and so is its mean
        aps += [
            (float(curves.ravel().mean()), float(curves[0].mean())) for curves in np.moveaxis(precision[..., 0], 2, 0)
        ]
    metrics = dict(zip(METRICS, _means(precisions, np.concatenate(recalls, axis=1)), strict=True))
    counts = np.bincount(dataset.labels[~dataset.crowd], minlength=len(dataset.classes)).tolist()
    of_classes = zip(
        dataset.classes, dataset.category_ids, [aps[place] for place in index.tolist()], counts, strict=True
    )
    return Scores(metrics, [ClassResult(label, i, ap, ap50, objects) for label, i, (ap, ap50), objects in of_classes])


def _means(precisions: list[list[np.ndarray]], recall: np.ndarray) -> Iterator[float]:
    """The values of METRICS; each mean adds the numbers in pycocotools' order, which decides the last bit."""
    every = list(range(10))
    for area, ious in ((0, every), (0, [0]), (0, [5]), (1, every), (2, every), (3, every)):
        yield _mean(np.concatenate([part[ious] for part in precisions[area]], axis=2))
    for area, limit in ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (3, 2)):
        yield _mean(recall[:, :, area, limit])


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if len(known) else -1.0


def matched_objects(evaluation: COCOeval, detections: int) -> np.ndarray:
    """The object that COCO's greedy matching at IoU 0.5 assigns to each of the `detections` of `evaluation`.

    Returns: (D,) int64, index 0..M-1, or FALSE_POSITIVE; NOT_COUNTED for a detection on a crowd or beyond the 100 best
        of its image and class.
    """
    evaluation.evaluate()
    diagnostics = evaluation.image_diagnostics(iou_thr=IOU, score_thr=2)  # 2: no search for wrong annotations
    matched = np.full(detections, NOT_COUNTED)
    matched[np.fromiter(diagnostics["dt_status"], np.int64, len(diagnostics["dt_status"])) - 1] = FALSE_POSITIVE
    pairs = np.array(list(diagnostics["dt_match"].items()), np.int64).reshape(-1, 2)
    matched[pairs[:, 0] - 1] = pairs[:, 1] - 1
    return matched


def matched_ignoring_classes(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    """`matched_objects` of `results` (D, 7) as if all objects and detections were of one class and no object ignored
    for its area."""
    objects, rows = len(dataset.boxes), results.copy()
    rows[:, 6] = 0
    one_class = replace(
        dataset, classes=("any",), category_ids=(1,), labels=np.zeros(objects, np.int32), areas=np.ones(objects)
    )
    return matched_objects(coco_eval(one_class, rows), len(rows))
