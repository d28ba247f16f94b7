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

BOX_TOLERANCE = 0.1  # pixels of the image
SCORE_TOLERANCE = 1e-3
MISMATCHES = 0.02  # share; if the scores of two boxes differ by a rounding error, either may suppress the other
COMPARED = 20  # the smallest number of detections of a pair of images


@dataclass(frozen=True)
class Agreement:
    """How close the detections of an exported model are to torch's.

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

    A lower threshold applies where fewer than COMPARED detections exceed the detector's own.

    name: the file, for the message. Raises: VerificationError if more than MISMATCHES of the detections differ, or if
    there are none.
    """
    detections, boxes, scores, mismatches = 0, 0.0, 0.0, 0
    for i in range(0, len(images), 2):
        pair = images[i : i + 2]
        threshold = _low_threshold(reference, pair)
        ours, theirs = (_with_threshold(each, threshold).predict_batch(pair) for each in (reference, exported))
        for a, b in zip(ours, theirs, strict=True):
            partner = _partners(a, b)
            same = partner >= 0
            detections += len(a)
            mismatches += int((~same).sum()) + abs(len(a) - len(b))
            if same.any():
                boxes = max(boxes, float(np.abs(a.boxes[same] - b.boxes[partner[same]]).max()))
                scores = max(scores, float(np.abs(a.scores[same] - b.scores[partner[same]]).max()))
    if not detections:
        raise VerificationError(f"{name}: torch detects nothing to compare with; no file was written")
    if mismatches > MISMATCHES * detections:
        raise VerificationError(
            f"{name}: {mismatches} of {detections} detections differ from torch's by more than {BOX_TOLERANCE:g} "
            f"pixels or {SCORE_TOLERANCE:g} in score; no file was written"
        )
    return Agreement(detections, boxes, scores, mismatches)


def _low_threshold(detector: Detector, images: Sequence[np.ndarray]) -> float:
    """The detector's threshold, or a lower one that COMPARED scores exceed, half way between two scores."""
    own = detector.settings.score_threshold
    if sum(map(len, detector.predict_batch(images))) >= COMPARED:
        return own
    every = _with_threshold(detector, 0.0).predict_batch(images)
    best = np.sort(np.concatenate([detections.scores for detections in every]))[::-1]
    return min(own, float(best[COMPARED : COMPARED + 2].mean())) if len(best) > COMPARED + 1 else 0.0


def _with_threshold(detector: Detector, score_threshold: float) -> Detector:
    """The same detector with another threshold."""
    changed = copy.copy(detector)
    changed.settings = replace(detector.settings, score_threshold=score_threshold)
    return changed


def _partners(ours: Detections, theirs: Detections) -> np.ndarray:
    """(D,) int, the index in `theirs` of the nearest detection within the tolerances of each of `ours`; -1 for none."""
    if not len(ours) or not len(theirs):
        return np.full(len(ours), -1)
    apart = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(axis=2)  # (D, D')
    equal = (ours.labels[:, None] == theirs.labels[None]) & (apart <= BOX_TOLERANCE)
    equal &= np.abs(ours.scores[:, None] - theirs.scores[None]) <= SCORE_TOLERANCE
    nearest = np.where(equal, apart, np.inf).argmin(axis=1)
    return np.where(equal.any(axis=1), nearest, -1)
