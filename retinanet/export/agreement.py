"""Whether an exported model detects the same objects as torch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from retinanet.data.synthetic_image import random_picture
from retinanet.detections import Detections
from retinanet.errors import VerificationError
from retinanet.inference.detector import Detector
from retinanet.model.retinanet import Predictions

BOX_TOLERANCE = 0.1  # pixels of the image
SCORE_TOLERANCE = 1e-3
ROUNDING = 2e-6  # a difference of two scores that is no reason for an order
IOU_TOLERANCE = 1e-3
MISMATCHES = 0.02  # share
COMPARED = 20  # the smallest number of detections of a pair of images


@dataclass(frozen=True)
class Agreement:
    """How close the detections of an exported model are to torch's.

    detections: the number compared. boxes: the largest difference in pixels. scores: the largest difference.
    others: the number of detections without a counterpart within the tolerances, at most MISMATCHES of all. Where two
        scores differ by no more than rounding, either box may come first, and what follows from that does not count.
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

    reference: in torch. name: the file, for the message.
    Raises: VerificationError if more than MISMATCHES of the detections differ, or nothing was detected.
    """
    detections = _Count()
    for i in range(0, len(images), 2):
        pair = images[i : i + 2]
        threshold = _low_threshold(reference, pair)
        detections.compare(reference, exported, pair, _cuts(reference, pair), {"score_threshold": threshold})
    if not detections.compared:
        raise VerificationError(f"{name}: torch detects nothing to compare with; no file was written")
    if detections.mismatches > MISMATCHES * detections.compared:
        raise VerificationError(
            f"{name}: {detections.mismatches} of {detections.compared} detections differ from torch's by more than "
            f"{BOX_TOLERANCE:g} pixels or {SCORE_TOLERANCE:g} in score; no file was written"
        )
    return Agreement(detections.compared, detections.boxes, detections.scores, detections.mismatches)


@dataclass
class _Count:
    """What was compared so far; the fields are those of Agreement."""

    compared: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    mismatches: int = 0

    def compare(
        self,
        reference: Detector,
        exported: Detector,
        images: Sequence[np.ndarray],
        cuts: Sequence[Sequence[float]],
        settings: dict[str, float],
    ) -> None:
        """Count the detections in `images` with other settings. cuts: for each image; see `_cuts`."""
        changed = [_with_settings(each, settings) for each in (reference, exported)]
        ours, theirs = (each.predict_batch(images) for each in changed)
        iou, most = changed[0].settings.nms_iou, changed[0].settings.max_detections
        for a, b, of_image in zip(ours, theirs, cuts, strict=True):
            partner = _partners(a, b)
            same = partner >= 0
            if same.any():
                self.boxes = max(self.boxes, float(np.abs(a.boxes[same] - b.boxes[partner[same]]).max()))
                self.scores = max(self.scores, float(np.abs(a.scores[same] - b.scores[partner[same]]).max()))
            limits = [*of_image, changed[0].settings.score_threshold]
            limits += [float(each.scores[-1]) for each in (a, b) if len(each) == most]
            self.compared += len(a)
            others = _subset(a, ~same), _subset(b, _partners(b, a) < 0)
            self.mismatches += _unexplained(*others, (a, b), limits, iou)


def _unexplained(
    ours: Detections,
    theirs: Detections,
    every: tuple[Detections, Detections],
    limits: Sequence[float],
    iou: float,
) -> int:
    """The number of detections without a counterpart that no near tie explains.

    A tie is at one of the `limits` of scores, between two boxes that suppress each other, or at the limit of their IoU;
    its outcome may explain that another box is suppressed or not.

    ours, theirs: those without a counterpart. every: all detections of each.
    """
    overlap = _overlaps(ours, theirs) > iou - IOU_TOLERANCE  # (D, D')
    lead = ours.scores[:, None] - theirs.scores[None]
    tied = overlap & (np.abs(lead) <= ROUNDING)
    explained = [
        _near(ours, limits) | tied.any(axis=1) | _at_iou(ours, every[1], iou),
        _near(theirs, limits) | tied.any(axis=0) | _at_iou(theirs, every[0], iou),
    ]
    before = -1
    while before != (before := int(explained[0].sum() + explained[1].sum())):
        explained[0] |= (overlap & (lead <= ROUNDING) & explained[1][None]).any(axis=1)
        explained[1] |= (overlap & (lead >= -ROUNDING) & explained[0][:, None]).any(axis=0)
    return int((~explained[0]).sum() + (~explained[1]).sum())


def _near(detections: Detections, limits: Sequence[float]) -> np.ndarray:
    return (np.abs(detections.scores[:, None] - np.array(limits, np.float32)) <= ROUNDING).any(axis=1)


def _at_iou(some: Detections, others: Detections, iou: float) -> np.ndarray:
    """(D,) bool, whether the IoU of each of `some` with one of the better `others` is at the limit."""
    at_limit = np.abs(_overlaps(some, others) - iou) <= IOU_TOLERANCE
    return (at_limit & (some.scores[:, None] - others.scores[None] <= ROUNDING)).any(axis=1)


def _overlaps(a: Detections, b: Detections) -> np.ndarray:
    """(D, D') IoU, 0 for boxes of different classes."""
    overlap = box_iou(torch.from_numpy(a.boxes), torch.from_numpy(b.boxes)).numpy()
    return np.where(a.labels[:, None] == b.labels[None], overlap, 0.0)


def _subset(detections: Detections, chosen: np.ndarray) -> Detections:
    return Detections(detections.boxes[chosen], detections.scores[chosen], detections.labels[chosen])


def _cuts(detector: Detector, images: Sequence[np.ndarray]) -> list[list[float]]:
    """The scores of each image at which the `top_k` of a level end, for the levels that have more."""
    cuts: list[list[float]] = [[] for _ in images]
    top_k = detector.settings.top_k

    def observe(predictions: Predictions, *_: object) -> None:
        for logits in predictions.logits:
            for of_image, scores in zip(cuts, logits.float().sigmoid().flatten(1), strict=True):
                if len(scores) > top_k:
                    of_image.append(float(scores.topk(top_k).values[-1]))

    model: Any = detector.model
    model.detect(*detector.prepare(images), detector.settings, observer=observe)
    return cuts


def _low_threshold(detector: Detector, images: Sequence[np.ndarray]) -> float:
    """The detector's threshold, or a lower one that COMPARED scores exceed, half way between two scores."""
    own = detector.settings.score_threshold
    if sum(map(len, detector.predict_batch(images))) >= COMPARED:
        return own
    every = _with_settings(detector, {"score_threshold": 0.0}).predict_batch(images)
    best = np.sort(np.concatenate([detections.scores for detections in every]))[::-1]
    return min(own, float(best[COMPARED : COMPARED + 2].mean())) if len(best) > COMPARED + 1 else 0.0


def _with_settings(detector: Detector, settings: dict[str, float]) -> Detector:
    """The same detector with other settings."""
    changed = copy.copy(detector)
    changed.settings = replace(detector.settings, **settings)  # type: ignore[arg-type]
    return changed


def _partners(ours: Detections, theirs: Detections) -> np.ndarray:
    """(D,) int, the index in `theirs` of the nearest detection within the tolerances of each of `ours`; -1 for none."""
    if not len(ours) or not len(theirs):
        return np.full(len(ours), -1)
    apart = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(axis=2)  # (D, D')
    equal = (ours.labels[:, None] == theirs.labels[None]) & (apart <= BOX_TOLERANCE)
    lead = np.abs(ours.scores[:, None] - theirs.scores[None])
    equal &= lead <= SCORE_TOLERANCE
    nearest = np.where(equal, apart / BOX_TOLERANCE + lead / SCORE_TOLERANCE, np.inf).argmin(axis=1)
    return np.where(equal.any(axis=1), nearest, -1)
