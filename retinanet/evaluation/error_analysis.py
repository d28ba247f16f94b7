"""What kinds of errors a detector makes: TIDE's, confused classes, scores that promise too much, precision lost on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import metrics

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import IOU, UNCOUNTED, WRONG, coco_eval, labels_of, matches, places

BINS = 10  # of calibration, each a tenth of the scores, as Guo et al. 2017
BACKGROUND_IOU = (
    0.1  # with less than this of every object, a detection is on background (Bolya et al. 2020, section 2.2)
)
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
    """One kind of error: how many there are, and by how much AP50 would grow if there were none.

    count: None for the last two, which are sums of several.
    """

    kind: str
    count: int | None
    AP50_lost: float


@dataclass(frozen=True)
class Calibration:
    """How far the scores are from the share of detections that are right; one entry for each of BINS bins.

    expected_error: mean gap, weighted by detections (Guo et al. 2017, equation 3). largest_error: of any bin.
    per_class: (K,) each class's expected_error, NaN without detections.
    counts: (BINS,) detections. scores, precision: (BINS,) their mean score and the share that is right, NaN in an empty bin.
    """

    expected_error: float
    largest_error: float
    per_class: np.ndarray
    counts: np.ndarray
    scores: np.ndarray
    precision: np.ndarray


@dataclass(frozen=True)
class Diagnosis:
    """tide: one for each kind. calibration: of all detections.

    confusion: (K + 1, K + 1) int64; row: class of the object, column: class of the detection that took it at IoU 0.5
        whatever its class, the last of both: none. Counts detections above each class's threshold.
    recall: (101,) 0, 0.01, ... 1. curves: IoU -> (101, K) COCO's interpolated precision there, NaN for a class without
        objects, at IoU 0.5 and 0.75 and, under the name "mean", of all ten.
    """

    tide: list[TideError]
    confusion: np.ndarray
    calibration: Calibration
    recall: np.ndarray
    curves: dict[str, np.ndarray]


def diagnose(dataset: Dataset, results: np.ndarray, thresholds: Sequence[float]) -> Diagnosis:
    """What kinds of errors `results` (D, 7) are. thresholds: K, which only the confusion of classes heeds."""
    evaluation = coco_eval(dataset, results)
    assert evaluation.eval is not None
    # (IoU, recall, K) at all areas, 100 detections
    precision = evaluation.eval["precision"][:, :, places(dataset), 0, -1]
    precision = np.where(precision < 0, np.nan, precision)
    found = matches(evaluation, len(results))
    return Diagnosis(
        tide=_tide(evaluation.tide_errors(pos_thr=IOU, bg_thr=BACKGROUND_IOU)),
        # hotcoco would count what is found on crowds as false
        confusion=_confusion(dataset, above(dataset, results[found != UNCOUNTED], thresholds)),
        calibration=_calibration(dataset, results, found),
        recall=np.array(evaluation.params.rec_thrs),
        curves={"0.5": precision[0], "0.75": precision[5], "mean": precision.mean(axis=0)},
    )


def above(dataset: Dataset, results: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Those of `results` (D, 7) whose score exceeds the threshold of their class; K thresholds."""
    return results[results[:, 5] > np.asarray(thresholds)[labels_of(dataset, results)]]


def _tide(found: dict) -> list[TideError]:
    return [TideError(kind, found["counts"].get(short), found["delta_ap"][short]) for short, kind in TIDE.items()]


def _confusion(dataset: Dataset, results: np.ndarray) -> np.ndarray:
    matrix = coco_eval(dataset, results).confusion_matrix(iou_thr=IOU)["matrix"].astype(np.int64)
    order = np.append(places(dataset), len(dataset.classes))
    return matrix[np.ix_(order, order)]


def _calibration(dataset: Dataset, results: np.ndarray, found: np.ndarray) -> Calibration:
    counted = found != UNCOUNTED
    scores, right, labels = results[counted, 5], found[counted] != WRONG, labels_of(dataset, results)[counted]
    error, largest = metrics.calibration_error(scores, right, BINS)
    bins = metrics.calibration_curve(scores, right, BINS)
    counts = np.array([bin["count"] for bin in bins])
    per_class = [
        metrics.calibration_error(scores[labels == label], right[labels == label], BINS)[0]
        if (labels == label).any()
        else np.nan
        for label in range(len(dataset.classes))
    ]
    return Calibration(
        expected_error=error,
        largest_error=largest,
        per_class=np.array(per_class),
        counts=counts,
        scores=np.where(counts > 0, [bin["avg_confidence"] for bin in bins], np.nan),
        precision=np.where(counts > 0, [bin["avg_accuracy"] for bin in bins], np.nan),
    )
