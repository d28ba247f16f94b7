"""What `retina eval` shows of thresholds, and with `--diagnose` of the kinds of errors."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.data.dataset import Dataset
    from retinanet.evaluation.error_analysis import Diagnosis
    from retinanet.evaluation.thresholds import ClassThreshold

RECALLS = (10, 30, 50, 70, 90)  # percent, of the 101 points
CONFUSIONS = 15


def document(
    dataset: "Dataset", thresholds: "list[ClassThreshold] | None", found: "Diagnosis | None"
) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if thresholds is not None:
        shown["thresholds"] = [vars(each) for each in thresholds]
    if found is not None:
        calibration = found.calibration
        shown["tide"] = [vars(each) for each in found.tide]
        shown["confusion"] = {"classes": [*dataset.classes, None], "matrix": found.confusion.tolist()}
        shown["calibration"] = {
            "expected_error": calibration.expected_error,
            "largest_error": calibration.largest_error,
            "per_class": dict(zip(dataset.classes, _known(calibration.per_class), strict=True)),
            "detections": calibration.counts.tolist(),
            "score": _known(calibration.scores),
            "precision": _known(calibration.precision),
        }
        shown["curves"] = {
            "recall": found.recall.tolist(),
            "precision": {
                iou: dict(zip(dataset.classes, map(_known, curves.T), strict=True))
                for iou, curves in found.curves.items()
            },
        }
    return shown


def tables(dataset: "Dataset", thresholds: "list[ClassThreshold] | None", found: "Diagnosis | None") -> None:
    if thresholds is not None:
        _threshold_table(thresholds)
    if found is not None:
        _tide_table(found)
        _confusion_table(dataset, found)
        _calibration_table(found)
        _curve_table(dataset, found)


def _threshold_table(thresholds: "list[ClassThreshold]") -> None:
    columns = ("class", "threshold", "95 %", "precision", "95 %", "recall", "95 %", "F1", "objects")
    made = render.table("Thresholds: best F1, or the precision asked for, at IoU 0.5; 95 % of resamples", *columns)
    for each in thresholds:
        render.row(
            made,
            each.label,
            f"{each.threshold:g}",
            _interval(each.threshold_interval),
            _share(each.precision),
            _interval(each.precision_interval),
            _share(each.recall),
            _interval(each.recall_interval),
            _share(each.f1),
            each.objects,
        )
    render.print_table(made)


def _tide_table(found: "Diagnosis") -> None:
    made = render.table("Errors (TIDE): AP50 lost by each kind", "error", "count", "AP50 lost")
    for each in found.tide:
        render.row(made, each.kind, "" if each.count is None else each.count, f"{each.AP50_lost:.4f}")
    render.print_table(made)


def _confusion_table(dataset: "Dataset", found: "Diagnosis") -> None:
    """The largest counts beside the diagonal."""
    matrix = found.confusion.copy()
    np.fill_diagonal(matrix, 0)
    names = [*dataset.classes, "nothing"]
    sums = found.confusion.sum(axis=1)
    made = render.table(
        "Confusions above the thresholds, largest first", "object", "taken for", "count", text_columns=2
    )
    made.add_column("of the objects", justify="right")
    for place in np.argsort(-matrix, axis=None, kind="stable")[:CONFUSIONS].tolist():
        row, column = divmod(place, len(names))
        if not (count := int(matrix[row, column])):
            break
        share = f"{count / sums[row]:.1%}" if row < len(dataset.classes) else ""
        render.row(made, names[row], names[column], count, share)
    render.print_table(made)


def _calibration_table(found: "Diagnosis") -> None:
    calibration = found.calibration
    title = f"Calibration: expected error {calibration.expected_error:.4f}, largest {calibration.largest_error:.4f}"
    made = render.table(title, "scores", "detections", "mean score", "share right")
    bins = len(calibration.counts)
    for i, count in enumerate(calibration.counts.tolist()):
        if count:
            values = (f"{calibration.scores[i]:.3f}", f"{calibration.precision[i]:.3f}")
            render.row(made, f"{i / bins:.1f} to {(i + 1) / bins:.1f}", count, *values)
    render.print_table(made)


def _curve_table(dataset: "Dataset", found: "Diagnosis") -> None:
    made = render.table("Precision at recall, IoU 0.5", "class", *(f"{recall} %" for recall in RECALLS))
    for name, curve in zip(dataset.classes, found.curves["0.5"].T, strict=True):
        render.row(made, name, *(_share(value) for value in _known(curve[list(RECALLS)])))
    render.print_table(made)


def _known(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _share(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f}\u2013{bounds[1]:.3f}"
