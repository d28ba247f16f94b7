"""What is found in an image. Without torch, which exported models do without."""

from dataclasses import dataclass

import numpy as np

DEFAULT_SCORE_THRESHOLD = 0.3  # people are shown detections that score higher, where nothing else is said
ABOVE_ALL_SCORES = 1.0  # a threshold that no score exceeds


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first.

    boxes: (D, 4) float32, xyxy pixels of the original image. scores: (D,) float32 in 0..1. labels: (D,) int64 in 0..K-1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


NO_DETECTIONS = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
