"""Whether an exported model detects the same objects as torch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retinanet.data.synthetic_image import random_picture
from retinanet.detections import Detections
from retinanet.errors import VerificationError
from retinanet.inference.detector import Detector

# OpenVINO and ONNX Runtime differ from torch by 1.2e-4 pixels and by 1.5e-5 in logits
PIXELS, PIXELS_PER_SIDE = 0.01, 1e-4  # tolerance of a box: the first, plus the second times its longer side
LOGITS, SCORES = 1e-3, 1e-6  # tolerance of a score: that of its logit, or the second where scores are near 0 or 1
MISMATCHES = 0.01  # share; if the scores of two boxes differ by a rounding error, either may suppress the other
SAME_BOX = 0.999  # as the IoU of the suppression: only boxes that the image's edge makes equal suppress each other
UNLIMITED = 10**6  # detections
ROWS = 256  # of detections that are compared with all others at once


@dataclass(frozen=True)
class Agreement:
    """How close the detections of an exported model are to torch's, before and after the suppression.

    detections: the number compared. boxes: the largest difference in pixels. scores: the largest difference.
    others: the number of detections without a counterpart within the tolerances, at most MISMATCHES of all.
    """

    detections: int
    boxes: float
    scores: float
    others: int


def random_pictures() -> list[np.ndarray]:
    """Four pictures of several shapes, (H, W, 3) uint8 RGB, the same at every call."""
    rng = np.random.default_rng(0)
    return [random_picture(rng, *size, 12, 128) for size in ((240, 320), (300, 256), (320, 200), (256, 256))]


def verify(reference: Detector, exported: Detector, images: Sequence[np.ndarray], name: Path) -> Agreement:
    """Compare detections on `images`, each (H, W, 3) uint8 RGB, two images per batch.

    All candidates are compared, and all that remain after the suppression, whatever the detector's threshold and
    limit: where many scores are nearly equal, rounding decides which of them a threshold accepts.

    name: the file, for the message. Raises: VerificationError if more than MISMATCHES of either differ, or if there are
    none.
    """
    compared = [_compare(reference, exported, images, iou) for iou in (SAME_BOX, reference.settings.nms_iou)]
    if not all(each.detections for each in compared):
        raise VerificationError(f"{name}: torch detects nothing to compare with; no file was written")
    for each, what in zip(compared, ("candidates", "detections"), strict=True):
        if each.others > MISMATCHES * each.detections:
            raise VerificationError(
                f"{name}: {each.others} of {each.detections} {what} differ from torch's by more than {PIXELS:g} pixels "
                f"or {LOGITS:g} in logits; no file was written"
            )
    return Agreement(
        sum(each.detections for each in compared),
        max(each.boxes for each in compared),
        max(each.scores for each in compared),
        sum(each.others for each in compared),
    )


def _compare(reference: Detector, exported: Detector, images: Sequence[np.ndarray], iou: float) -> Agreement:
    """Compare all detections of any score after suppression at `iou`."""
    detections, boxes, scores, others = 0, 0.0, 0.0, 0
    for i in range(0, len(images), 2):
        ours, theirs = (_with_all(each, iou).predict_batch(images[i : i + 2]) for each in (reference, exported))
        for a, b in zip(ours, theirs, strict=True):
            partner = _partners(a, b)
            same = partner >= 0
            detections += len(a)
            others += max(int((~same).sum()), int((_partners(b, a) < 0).sum()))
            if same.any():
                boxes = max(boxes, float(np.abs(a.boxes[same] - b.boxes[partner[same]]).max()))
                scores = max(scores, float(np.abs(a.scores[same] - b.scores[partner[same]]).max()))
    return Agreement(detections, boxes, scores, others)


def _with_all(detector: Detector, iou: float) -> Detector:
    """The same detector with all detections of any score after suppression at `iou`."""
    changed = copy.copy(detector)
    changed.settings = replace(detector.settings, score_threshold=0.0, nms_iou=iou, max_detections=UNLIMITED)
    return changed


def _partners(ours: Detections, theirs: Detections) -> np.ndarray:
    """(D,) int, the index in `theirs` of the nearest detection within the tolerances of each of `ours`; -1 for none."""
    partner = np.full(len(ours), -1)
    for label in np.intersect1d(ours.labels, theirs.labels):
        rows, columns = np.flatnonzero(ours.labels == label), np.flatnonzero(theirs.labels == label)
        boxes, scores = theirs.boxes[columns], theirs.scores[columns]
        for part in np.split(rows, range(ROWS, len(rows), ROWS)):
            sides = (ours.boxes[part, 2:] - ours.boxes[part, :2]).max(axis=1, keepdims=True)
            slopes = (ours.scores[part] * (1 - ours.scores[part]))[:, None]  # of a score over its logit
            apart = np.abs(ours.boxes[part, None] - boxes).max(axis=2) / (PIXELS + PIXELS_PER_SIDE * sides)  # (d, D')
            apart = np.maximum(apart, np.abs(ours.scores[part, None] - scores) / (LOGITS * slopes + SCORES))
            nearest = apart.argmin(axis=1)
            partner[part] = np.where(apart.min(axis=1) <= 1, columns[nearest], -1)
    return partner
