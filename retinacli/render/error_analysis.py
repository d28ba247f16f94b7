"""Shows an error analysis: thresholds, kinds of errors, confused classes, calibration, precision at each recall."""

import math
from typing import Any

import numpy as np

from retinacli.console import DASH, print_table
from retinanet.data.dataset import Dataset
from retinanet.evaluation.error_analysis import Diagnosis, largest_confusions
from retinanet.evaluation.thresholds import ClassThreshold

RECALLS = (10, 30, 50, 70, 90)  # percent, of the 101 points
CONFUSIONS = 15


def analysis_document(
    dataset: Dataset, thresholds: list[ClassThreshold] | None, diagnosis: Diagnosis | None
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


def analysis_tables(dataset: Dataset, thresholds: list[ClassThreshold] | None, diagnosis: Diagnosis | None) -> None:
    if thresholds is not None:
        _threshold_table(thresholds)
    if diagnosis is not None:
        _tide_table(diagnosis)
        _confusion_table(dataset, diagnosis)
        _calibration_table(diagnosis)
        _curve_table(dataset, diagnosis)


def _threshold_table(thresholds: list[ClassThreshold]) -> None:
    columns = ("class", "threshold", "95 %", "precision", "95 %", "recall", "95 %", "F1", "objects")
    title = "Score thresholds: best F1, or the required precision, at IoU 0.5; with 95 % intervals"
    rows = []
    for each in thresholds:
        threshold = f"{each.threshold:g}", _interval(each.threshold_interval)
        precision = _share(each.precision), _interval(each.precision_interval)
        recall = _share(each.recall), _interval(each.recall_interval)
        rows.append((each.label, *threshold, *precision, *recall, _share(each.f1), each.objects))
    print_table(title, columns, rows)


def _tide_table(diagnosis: Diagnosis) -> None:
    rows = ((each.kind, "" if each.count is None else each.count, f"{each.AP50_lost:.4f}") for each in diagnosis.tide)
    print_table("Errors (TIDE): how much AP50 each kind costs", ("error", "count", "AP50 lost"), rows)


def _confusion_table(dataset: Dataset, diagnosis: Diagnosis) -> None:
    """The largest off-diagonal counts."""
    names = [*dataset.classes, "nothing"]
    sums = diagnosis.confusion.sum(axis=1).tolist()
    rows = []
    for actual, detected, count in largest_confusions(diagnosis.confusion, CONFUSIONS):
        share = f"{count / sums[actual]:.1%}" if actual < len(dataset.classes) else ""
        rows.append((names[actual], names[detected], count, share))
    title = "Confused classes among the detections above the thresholds, most frequent first"
    print_table(title, ("object", "detected as", "count", "share of the objects"), rows, text_columns=2)


def _calibration_table(diagnosis: Diagnosis) -> None:
    c = diagnosis.calibration
    bins = len(c.counts)
    rows = (
        (f"{i / bins:.1f} to {(i + 1) / bins:.1f}", count, f"{c.scores[i]:.3f}", f"{c.precision[i]:.3f}")
        for i, count in enumerate(c.counts.tolist())
        if count
    )
    errors = f"expected error {c.expected_error:.4f}, largest error {c.largest_error:.4f}"
    columns = ("scores", "detections", "mean score", "share correct")
    print_table(f"Calibration of the scores: {errors}", columns, rows)


def _curve_table(dataset: Dataset, diagnosis: Diagnosis) -> None:
    rows = (
        (name, *map(_share, _known(curve[list(RECALLS)])))
        for name, curve in zip(dataset.classes, diagnosis.curves["0.5"].T, strict=True)
    )
    print_table("Precision at each recall, IoU 0.5", ("class", *(f"{recall} %" for recall in RECALLS)), rows)


def _known(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f}\u2013{bounds[1]:.3f}"
