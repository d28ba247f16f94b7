"""Shows detections in images."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from retinacli.console import counter, message, print_table, row, table

if TYPE_CHECKING:
    from retinanet.inference.detector import Detector
    from retinanet.inference.predict import Prediction


def collect_predictions(predictions: "Iterable[Prediction]", total: int) -> "list[Prediction]":
    """All predictions without pixels, with a progress bar and a message for each unreadable file."""
    kept = []
    with counter("images") as progress:
        for item in predictions:
            if item.fault is not None:
                message(item.fault)
            kept.append(replace(item, image=None))
            progress(len(kept), total)
    return kept


def show_predictions(predictions: "list[Prediction]", detector: "Detector", as_json: bool) -> None:
    """Show the detections of each image, best first."""
    from retinanet.inference.results import to_json

    if as_json:
        print(json.dumps(to_json(predictions, detector)))
        return
    made = table("Detections", "file", "class", "score", "x1", "y1", "x2", "y2", text_columns=2)
    for item in predictions:
        if item.fault is not None:
            continue
        d = item.detections
        file: object = item.file
        if not len(d):
            row(made, file, "no detections", "", "", "", "", "")
        for label, score, box in zip(d.labels, d.scores, d.boxes, strict=True):
            row(made, file, detector.classes[label], f"{score:.3f}", *(f"{x:.1f}" for x in box))
            file = ""
        made.add_section()
    print_table(made)
