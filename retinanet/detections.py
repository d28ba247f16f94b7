"""The detections of an image. This module does not need torch, since exported models run without it."""

from dataclasses import dataclass

import numpy as np

DEFAULT_SCORE_THRESHOLD = 0.3  # people see detections with a higher score, unless they choose another threshold
ABOVE_ALL_SCORES = 1.0  # as a threshold, it removes all detections


@dataclass(frozen=True)
class Detections:
    """The D detections in one image, by falling score.

    boxes: (D, 4) float32, xyxy pixels of the original image. scores: (D,) float32, 0..1. labels: (D,) int64, 0..K-1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


NO_DETECTIONS = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
