"""Shows an error analysis: thresholds, kinds of errors, confused classes, calibration, precision at each recall."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from retinacli.console import DASH, print_table, row, table

if TYPE_CHECKING:
    from retinanet.data.dataset import Dataset
    from retinanet.evaluation.error_analysis import Diagnosis
    from retinanet.evaluation.thresholds import ClassThreshold

RECALLS = (10, 30, 50, 70, 90)  # percent, of the 101 points
CONFUSIONS = 15


def analysis_document(
    dataset: "Dataset", thresholds: "list[ClassThreshold] | None", diagnosis: "Diagnosis | None"
) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if thresholds is not None:
        document["thresholds"] = [vars(each) for each in thresholds]
    if diagnosis is not None:
        calibration = diagnosis.calibration
        document["tide"] = [vars(each) for each in diagnosis.tide]
        document["confusion"] = {"classes": [*dataset.classes, None], "matrix": diagnosis.confusion.tolist()}
        document["calibration"] = {
            "expected_error": calibration.expected_error,
            "largest_error": calibration.largest_error,
            "per_class": dict(zip(dataset.classes, _known(calibration.per_class), strict=True)),
            "detections": calibration.counts.tolist(),
            "score": _known(calibration.scores),
            "precision": _known(calibration.precision),
        }
        document["curves"] = {
            "recall": diagnosis.recall.tolist(),
            "precision": {
                iou: dict(zip(dataset.classes, map(_known, curves.T), strict=True))
                for iou, curves in diagnosis.curves.items()
            },
        }
    return document


def analysis_tables(
    dataset: "Dataset", thresholds: "list[ClassThreshold] | None", diagnosis: "Diagnosis | None"
) -> None:
    if thresholds is not None:
        _threshold_table(thresholds)
    if diagnosis is not None:
        _tide_table(diagnosis)
        _confusion_table(dataset, diagnosis)
        _calibration_table(diagnosis)
        _curve_table(dataset, diagnosis)


def _threshold_table(thresholds: "list[ClassThreshold]") -> None:
    columns = ("class", "threshold", "95 %", "precision", "95 %", "recall", "95 %", "F1", "objects")
    title = "Score thresholds: best F1, or the required precision, at IoU 0.5; with 95 % intervals"
    made = table(title, *columns)
    for each in thresholds:
        threshold = f"{each.threshold:g}", _interval(each.threshold_interval)
        precision = _share(each.precision), _interval(each.precision_interval)
        recall = _share(each.recall), _interval(each.recall_interval)
        row(made, each.label, *threshold, *precision, *recall, _share(each.f1), each.objects)
    print_table(made)


def _tide_table(diagnosis: "Diagnosis") -> None:
    made = table("Errors (TIDE): how much AP50 each kind costs", "error", "count", "AP50 lost")
    for each in diagnosis.tide:
        row(made, each.kind, "" if each.count is None else each.count, f"{each.AP50_lost:.4f}")
    print_table(made)


def _confusion_table(dataset: "Dataset", diagnosis: "Diagnosis") -> None:
    """The largest off-diagonal counts."""
    matrix = diagnosis.confusion.copy()
    np.fill_diagonal(matrix, 0)
    names = [*dataset.classes, "nothing"]
    sums = diagnosis.confusion.sum(axis=1)
    title = "Confused classes among the detections above the thresholds, most frequent first"
    made = table(title, "object", "detected as", "count", "share of the objects", text_columns=2)
    for place in np.argsort(-matrix, axis=None, kind="stable")[:CONFUSIONS].tolist():
        actual, detected = divmod(place, len(names))
        if not (count := int(matrix[actual, detected])):
            break
        share = f"{count / sums[actual]:.1%}" if actual < len(dataset.classes) else ""
        row(made, names[actual], names[detected], count, share)
    print_table(made)


def _calibration_table(diagnosis: "Diagnosis") -> None:
    calibration = diagnosis.calibration
    errors = f"expected error {calibration.expected_error:.4f}, largest error {calibration.largest_error:.4f}"
    made = table(f"Calibration of the scores: {errors}", "scores", "detections", "mean score", "share correct")
    bins = len(calibration.counts)
    for i, count in enumerate(calibration.counts.tolist()):
        if count:
            values = (f"{calibration.scores[i]:.3f}", f"{calibration.precision[i]:.3f}")
            row(made, f"{i / bins:.1f} to {(i + 1) / bins:.1f}", count, *values)
    print_table(made)


def _curve_table(dataset: "Dataset", diagnosis: "Diagnosis") -> None:
    made = table("Precision at each recall, IoU 0.5", "class", *(f"{recall} %" for recall in RECALLS))
    for name, curve in zip(dataset.classes, diagnosis.curves["0.5"].T, strict=True):
        row(made, name, *(_share(value) for value in _known(curve[list(RECALLS)])))
    print_table(made)


def _known(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f}\u2013{bounds[1]:.3f}"
