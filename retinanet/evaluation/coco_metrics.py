"""The 12 COCO numbers of detections, per class too, by hotcoco."""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from hotcoco import COCO, COCOeval

from retinanet.data.dataset import Dataset

# in pycocotools' order, and what each is taken over
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
IOU = 0.5  # of a detection and the object that it finds, where one overlap has to be chosen
DETECTIONS = 100  # the metrics look at so many of an image and class
LARGEST = 1e10  # square pixels; the metrics leave larger objects out
WRONG, UNCOUNTED = -1, -2


@dataclass(frozen=True)
class ClassResult:
    """AP and AP50 of one class in 0..1, -1 where it has no objects; how many objects it has, crowds aside."""

    label: str
    category_id: int
    AP: float
    AP50: float
    objects: int


@dataclass(frozen=True)
class Scores:
    """metrics: name -> value in 0..1, -1 where no object falls into the range, as pycocotools gives them."""

    metrics: dict[str, float]
    per_class: list[ClassResult]


def images_of(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    """(D,) index 0..N-1 of the image of each row of `results` (D, 7)."""
    by_id = np.argsort(dataset.image_ids)
    return by_id[np.searchsorted(dataset.image_ids[by_id], results[:, 0])]


def labels_of(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    """(D,) 0..K-1 of each row of `results` (D, 7)."""
    by_id = np.argsort(dataset.category_ids)
    return by_id[np.searchsorted(np.asarray(dataset.category_ids)[by_id], results[:, 6])]


def ignored(areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(M,) bool, which objects the metrics do not count."""
    return crowd | (areas < 0) | (areas > LARGEST)


def coco_eval(dataset: Dataset, results: np.ndarray) -> COCOeval:
    """hotcoco's evaluation of `results` (D, 7), run; its numbers equal pycocotools'.

    Images are numbered 1..N in it, by ascending id, objects 1..M and detections 1..D as they stand: no metric depends
    on these numbers, and hotcoco refuses negative ones.
    """
    numbers = 1 + np.argsort(np.argsort(dataset.image_ids))
    sizes = dataset.sizes.tolist()
    images = [{"id": int(i), "height": h, "width": w} for i, (h, w) in zip(numbers, sizes, strict=True)]
    categories = [{"id": i, "name": n} for i, n in sorted(zip(dataset.category_ids, dataset.classes, strict=True))]
    ground_truth = COCO.from_arrays(
        images,
        categories,
        numbers[dataset.image_index],
        np.asarray(dataset.category_ids, dtype=np.int64)[dataset.labels],
        dataset.boxes,
        ids=np.arange(1, len(dataset.boxes) + 1),
        area=dataset.areas,
        iscrowd=dataset.crowd.astype(np.int64),
    )
    found = results.copy()
    found[:, 0] = numbers[images_of(dataset, results)]
    evaluation = COCOeval(ground_truth, ground_truth.load_res(found), "bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # summarize prints its table
        evaluation.run()
    return evaluation


def places(dataset: Dataset) -> np.ndarray:
    """(K,) where each label's class stands in hotcoco's arrays, which go by category id."""
    return np.argsort(np.argsort(dataset.category_ids))


def score(dataset: Dataset, results: np.ndarray) -> Scores:
    """The numbers of `results` (D, 7) on `dataset`, equal to pycocotools'."""
    evaluation = coco_eval(dataset, results)
    assert evaluation.eval is not None
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, K) at all areas, 100 detections
    counts = np.bincount(dataset.labels[~dataset.crowd], minlength=len(dataset.classes))
    per_class = [
        ClassResult(
            label=name,
            category_id=category_id,
            AP=_mean(precision[:, :, place]),
            AP50=_mean(precision[:1, :, place]),
            objects=int(count),
        )
        for name, category_id, count, place in zip(
            dataset.classes, dataset.category_ids, counts, places(dataset), strict=True
        )
    ]
    return Scores({name: float(value) for name, value in zip(METRICS, evaluation.stats, strict=True)}, per_class)


def matches(evaluation: COCOeval, detections: int) -> np.ndarray:
    """The object that COCO's greedy matching at IoU 0.5 gives each of the `detections` that `evaluation` was made of.

    Returns: (D,) int64, index 0..M-1, WRONG, or UNCOUNTED for one on a crowd or not among its image and class's best 100.
    """
    known = evaluation.image_diagnostics(iou_thr=IOU, score_thr=2)  # no list of doubtful labels: no score is 2
    found = np.full(detections, UNCOUNTED)
    found[np.fromiter(known["dt_status"], np.int64, len(known["dt_status"])) - 1] = WRONG
    pairs = np.array(list(known["dt_match"].items()), np.int64).reshape(-1, 2)
    found[pairs[:, 0] - 1] = pairs[:, 1] - 1
    return found


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else -1.0
