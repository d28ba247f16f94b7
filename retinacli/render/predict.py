"""Shows detections in images."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from retinacli.console import counter, headed, in_precision, message, print_json, print_table
from retinanet.inference.detector import Detector
from retinanet.inference.predict import Prediction
from retinanet.inference.results import to_json

MOST_SHOWN = 100  # images whose detections are listed; more are summed up


def collect_predictions(predictions: Iterable[Prediction], total: int) -> list[Prediction]:
    """All predictions without pixels, with a progress bar and a message for each unreadable file.

    Ctrl-C and SIGTERM end them early.
    """
    kept: list[Prediction] = []
    with suppress(KeyboardInterrupt), counter("images") as progress:
        for item in predictions:
            if item.fault is not None:
                message(item.fault)
            kept.append(replace(item, image=None))
            progress(len(kept), total)
    return kept


def show_predictions(predictions: list[Prediction], detector: Detector, seconds: float, as_json: bool) -> None:
    """Show the detections of each image, best first; of many images, their numbers by class.

    seconds: that the images took.
    """
    if as_json:
        print_json(to_json(predictions, detector) | {"precision": detector.model.precision})
        return
    arithmetic = in_precision(detector.model.precision)
    if len(predictions) > MOST_SHOWN:
        labels = np.concatenate([item.detections.labels for item in predictions])
        images = np.concatenate([np.unique(item.detections.labels) for item in predictions])
        rows = (
            (name, np.count_nonzero(labels == label), np.count_nonzero(images == label))
            for label, name in enumerate(detector.classes)
            if label in labels
        )
        per_image = f"{1000 * seconds / len(predictions):.0f} ms per image"
        print_table(
            f"{len(predictions):,} images{arithmetic}, {per_image}", ("class", "detections", "images with it"), rows
        )
        return
    columns = ("file", "class", "score", "x1", "y1", "x2", "y2")
    groups = (headed([item.file], _rows(item, detector)) for item in predictions if item.fault is None)
    print_table(f"Detections{arithmetic}", columns, *groups, text_columns=2)


def _rows(item: Prediction, detector: Detector) -> list[tuple[str, ...]]:
    d = item.detections
    found = [
        (detector.classes[label], f"{score:.3f}", *(f"{x:.1f}" for x in box))
        for label, score, box in zip(d.labels, d.scores, d.boxes, strict=True)
    ]
    return found or [("no detections", "", "", "", "", "")]
