"""Analysis of a detector's errors: TIDE, confused classes, calibration, precision-recall curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import COCOeval, metrics

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import (
    DETECTIONS,
    FALSE_POSITIVE,
    IOU,
    NOT_COUNTED,
    accumulated,
    coco_eval,
    hotcoco_index,
    images_of,
    labels_of,
    matched_ignoring_classes,
    matched_objects,
)

BINS = 10  # of calibration, each 0.1 wide (Guo et al. 2017)
BACKGROUND_IOU = 0.1  # a detection below it with all objects is on background (Bolya et al. 2020, section 2.2)
# TIDE's errors (Bolya et al. 2020, section 2.2) by hotcoco's short names
TIDE = {
    "Cls": "wrong class",
    "Loc": "badly located",
    "Both": "wrong class and badly located",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
    "FP": "all false positives",
    "FN": "all false negatives",
}


@dataclass(frozen=True)
class TideError:
    """One kind of error and what it costs. count: None for the last two kinds, which are sums of others."""

    kind: str
    count: int | None
    AP50_lost: float


@dataclass(frozen=True)
class Calibration:
    """How well scores predict precision, in BINS bins of scores.

    expected_error: mean gap between score and precision, weighted by detections (Guo et al. 2017, equation 3).
    largest_error: the largest gap of any bin. per_class: (K,) expected_error of each class, NaN without detections.
    counts: (BINS,) detections. scores, precision: (BINS,) mean score, and share of true positives; NaN in empty bins.
    """

    expected_error: float
    largest_error: float
    per_class: np.ndarray
    counts: np.ndarray
    scores: np.ndarray
    precision: np.ndarray


@dataclass(frozen=True)
class Diagnosis:
    """The errors of all detections.

    confusion: (K + 1, K + 1) int64. Row: class of the object; column: class of the detection matched at IoU 0.5,
        ignoring classes; the last row and column mean none. Only detections above their class's threshold count.
    recall: (101,) 0, 0.01, ... 1. curves: "0.5", "0.75" (IoU) or "mean" (of all ten IoUs) -> (101, K) COCO's
        interpolated precision at `recall`, NaN without objects.
    """

    tide: list[TideError]
    confusion: np.ndarray
    calibration: Calibration
    recall: np.ndarray
    curves: dict[str, np.ndarray]


def diagnose(dataset: Dataset, results: np.ndarray, thresholds: Sequence[float]) -> Diagnosis:
    """Analyse `results` (D, 7). thresholds: K scores, only for the confusion matrix."""
    evaluation = coco_eval(dataset, results)
    matched = matched_objects(evaluation, len(results))
    tide = evaluation.tide_errors(pos_thr=IOU, bg_thr=BACKGROUND_IOU)
    return Diagnosis(
        tide=[TideError(kind, tide["counts"].get(short), tide["delta_ap"][short]) for short, kind in TIDE.items()],
        # hotcoco would count detections on crowds as false positives
        confusion=_confusion(dataset, above_thresholds(results[matched != NOT_COUNTED], thresholds)),
        calibration=_calibration(dataset, results, matched),
        recall=np.array(evaluation.params.rec_thrs),
        curves=_curves(dataset, evaluation),
    )


def _curves(dataset: Dataset, evaluation: COCOeval) -> dict[str, np.ndarray]:
    """The curves of `Diagnosis`."""
    parts = []  # (3, recall, k)
    for precision, _ in accumulated(evaluation, len(dataset.classes)):
        every_iou = precision[..., 0]  # objects of all sizes
        parts.append(np.stack([every_iou[0], every_iou[5], every_iou.mean(axis=0)]))
    curves = np.concatenate(parts, axis=2)[:, :, hotcoco_index(dataset)]
    return dict(zip(("0.5", "0.75", "mean"), np.where(curves < 0, np.nan, curves), strict=True))


def above_thresholds(results: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """The rows of `results` (D, 7) whose score exceeds their class's threshold. thresholds: K scores."""
    return results[results[:, 5] > np.asarray(thresholds)[labels_of(results)]]


def largest_confusions(confusion: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Up to `limit` of (row, column, count) of the largest counts off the diagonal, of equal ones the first."""
    rows, columns = confusion.nonzero()
    rows, columns = rows[rows != columns], columns[rows != columns]
    counts = confusion[rows, columns]
    largest = np.argsort(-counts, kind="stable")[:limit]
    return list(zip(rows[largest].tolist(), columns[largest].tolist(), counts[largest].tolist(), strict=True))


def _confusion(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    """The (K + 1, K + 1) counts of `Diagnosis`, of the 100 best of `results` (D, 7) in each image.

    These are hotcoco's counts, whose `confusion_matrix` takes several arrays of this size.
    """
    classes, objects = len(dataset.classes), len(dataset.boxes)
    order = np.lexsort((hotcoco_index(dataset)[labels_of(results)], -results[:, 5], images_of(results)))
    images = images_of(results)[order]
    order = order[np.arange(len(images)) - np.searchsorted(images, images) < DETECTIONS]
    labels, matched = labels_of(results)[order], matched_ignoring_classes(dataset, results[order])
    missed = ~dataset.crowd
    missed[matched[matched >= 0]] = False
    of_objects = np.append(dataset.labels, classes).astype(np.int64)  # the last for no object
    actual = np.concatenate([of_objects[np.where(matched >= 0, matched, objects)], dataset.labels[missed]])
    detected = np.concatenate([labels, np.full(missed.sum(), classes)])
    counts = np.bincount(actual * (classes + 1) + detected, minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


def _calibration(dataset: Dataset, results: np.ndarray, matched: np.ndarray) -> Calibration:
    counted = matched != NOT_COUNTED
    scores, correct = results[counted, 5], matched[counted] != FALSE_POSITIVE
    labels = labels_of(results[counted])
    per_class = np.full(len(dataset.classes), np.nan)
    for label in np.unique(labels):
        per_class[label], _ = metrics.calibration_error(scores[labels == label], correct[labels == label], BINS)
    error, largest = metrics.calibration_error(scores, correct, BINS)
    bins = metrics.calibration_curve(scores, correct, BINS)
    counts = np.array([bin["count"] for bin in bins])
    return Calibration(
        expected_error=error,
        largest_error=largest,
        per_class=per_class,
        counts=counts,
        scores=np.where(counts > 0, [bin["avg_confidence"] for bin in bins], np.nan),
        precision=np.where(counts > 0, [bin["avg_accuracy"] for bin in bins], np.nan),
    )
