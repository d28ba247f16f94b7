"""Writing images as files."""

from pathlib import Path

import cv2
import numpy as np

from retinanet.io.atomic import replacing


def write_picture(image: np.ndarray, file: Path) -> None:
    """Write `image` (H, W, 3) uint8 RGB as PNG or JPEG, as the suffix of `file` says. Raises: OSError."""
    _, encoded = cv2.imencode(file.suffix, image[:, :, ::-1])
    with replacing(file) as temporary:
        temporary.write_bytes(encoded.tobytes())
