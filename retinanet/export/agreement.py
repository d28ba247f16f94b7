"""Whether an exported model detects what torch detects."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retinanet.data.synthetic_image import drawn
from retinanet.detections import Detections
from retinanet.errors import VerificationError
from retinanet.inference.detector import Detector

BOX_TOLERANCE = 0.1  # pixels of the image


SCORE_TOLERANCE = 1e-3


MISMATCHES = 0.02  # a share: of two boxes whose scores differ by a rounding error, either may suppress the other


COMPARED = 20  # so many detections at least


@dataclass(frozen=True)
class Agreement:
    """How close detections are to torch's: how many were compared, the largest differences in pixels and in score.

    others: how many have no counterpart within the tolerances, at most MISMATCHES of all.
    """

    detections: int
    boxes: float
    scores: float
    others: int


def verify(reference: Detector, exported: Detector, images: Sequence[np.ndarray], name: Path) -> Agreement:
    """Compare detections on `images` (H, W, 3) uint8, in pairs. name: of the file, for the message.

    Where little exceeds the detector's own threshold, a lower one is taken.
    Raises: VerificationError.
    """
    detections, boxes, scores, mismatches = 0, 0.0, 0.0, 0
    for i in range(0, len(images), 2):
        pair = images[i : i + 2]
        settings = _lowered(reference, pair)
        ours, theirs = (_with(detector, settings).predict_batch(pair) for detector in (reference, exported))
        for a, b in zip(ours, theirs, strict=True):
            partner = _partners(a, b)
            same = partner >= 0
            detections += len(a)
            mismatches += int((~same).sum()) + abs(len(a) - len(b))
            if same.any():
                boxes = max(boxes, float(np.abs(a.boxes[same] - b.boxes[partner[same]]).max()))
                scores = max(scores, float(np.abs(a.scores[same] - b.scores[partner[same]]).max()))
    if mismatches > MISMATCHES * detections:
        raise VerificationError(
            f"{name}: {mismatches} of {detections} detections differ from torch's by more than {BOX_TOLERANCE:g} pixels "
            f"or {SCORE_TOLERANCE:g} in score; it was not written"
        )
    return Agreement(detections, boxes, scores, mismatches)


def _lowered(detector: Detector, images: Sequence[np.ndarray]) -> float:
    """The detector's threshold, or a lower one that some scores exceed, half way between two of them."""
    own = detector.settings.score_threshold
    if sum(map(len, detector.predict_batch(images))) >= COMPARED:
        return own
    found = _with(detector, 0.0).predict_batch(images)
    best = np.sort(np.concatenate([d.scores for d in found]))[::-1]
    return min(own, float(best[COMPARED : COMPARED + 2].mean())) if len(best) > COMPARED + 1 else 0.0


def _with(detector: Detector, score_threshold: float) -> Detector:
    """The same with another threshold."""
    changed = copy.copy(detector)
    changed.settings = replace(detector.settings, score_threshold=score_threshold)
    return changed


def _partners(ours: Detections, theirs: Detections) -> np.ndarray:
    """(D,) int, of each of `ours` the one of `theirs` that equals it within the tolerances; -1 where none does."""
    if not len(ours) or not len(theirs):
        return np.full(len(ours), -1)
    apart = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(axis=2)  # (D, D')
    equal = (ours.labels[:, None] == theirs.labels[None]) & (apart <= BOX_TOLERANCE)
    equal &= np.abs(ours.scores[:, None] - theirs.scores[None]) <= SCORE_TOLERANCE
    nearest = np.where(equal, apart, np.inf).argmin(axis=1)
    return np.where(equal.any(axis=1), nearest, -1)


def _drawn() -> list[np.ndarray]:
    """Four pictures of several shapes."""
    rng = np.random.default_rng(0)
    return [drawn(rng, *size, 12, 128) for size in ((240, 320), (300, 256), (320, 200), (256, 256))]
