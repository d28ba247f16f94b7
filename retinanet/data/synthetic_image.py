"""Synthetic images, to run a detector without image files."""

import cv2
import numpy as np


def random_picture(rng: np.random.Generator, height: int, width: int, rectangles: int, noise: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB: gradients, rectangles and noise, since even areas would give equal scores.

    noise: 1..256; added values are 0..noise - 1.
    """
    picture = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rectangles):
        (x1, x2), (y1, y2) = (np.sort(rng.integers(0, side, 2)) for side in (width, height))
        picture[y1:y2, x1:x2] = rng.integers(0, 256, 3)
    dimmed = cv2.convertScaleAbs(picture, alpha=1 - noise / 256)
    return cv2.add(dimmed, rng.integers(0, noise, picture.shape, np.uint8))
