"""An image of the report with its correct, wrong and missed boxes."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.errors import DataError
from retinanet.evaluation.image_errors import ImageErrors
from retinanet.inference.drawing import label_text
from retinanet.report.charts import shortened

KINDS = ("missed", "wrong", "correct")  # of boxes; also their classes in report.css
MAX_SIDE = 640  # pixels of the longer side of the JPEGs
JPEG_QUALITY = 80  # 0 to 100
LETTERS_PER_WIDTH = 38  # letter heights in the width of an image


@dataclass(frozen=True)
class BoxMark:
    """A box to draw, in pixels of the image. title: its kind, class and score. text: a short label beside it."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str
    text: str
    text_x: float
    text_y: float
    text_anchor: str


@dataclass(frozen=True)
class Picture:
    """An image of `width` by `height` pixels with `boxes`, whose letters are `letter` pixels high.

    counts: the boxes of each kind, in words. jpeg: a data URI. unreadable: the error if the image cannot be read.
    """

    file: str
    counts: str
    unreadable: str = ""
    width: int = 0
    height: int = 0
    letter: float = 0
    jpeg: str = ""
    boxes: Sequence[BoxMark] = ()


def picture(dataset: Dataset, names: Sequence[str], errors: ImageErrors) -> Picture:
    """The image of `errors`. names: of the K classes."""
    file = dataset.files[errors.index]
    counts = f"{len(errors.missed)} missed, {len(errors.false_positives)} wrong, {len(errors.true_positives)} correct"
    try:
        image = dataset.image(errors.index)
    except DataError as error:
        return Picture(file, counts, unreadable=str(error))
    height, width = image.shape[:2]
    letter = round(width / LETTERS_PER_WIDTH, 1)
    boxes = _box_marks(names, errors, (width, height), letter)
    return Picture(file, counts, "", width, height, letter, _data_uri(image), boxes)


def _box_marks(names: Sequence[str], errors: ImageErrors, size: tuple[int, int], letter: float) -> list[BoxMark]:
    """Large boxes first, so that the pointer reaches the small ones. size: (width, height)."""
    marks = []
    for kind, of_kind in zip(KINDS, (errors.missed, errors.false_positives, errors.true_positives), strict=True):
        corners = np.concatenate([of_kind.boxes[:, :2], of_kind.boxes[:, :2] + of_kind.boxes[:, 2:]], axis=1)
        rows = zip(np.clip(corners, 0, [*size, *size]).tolist(), of_kind.labels, of_kind.scores.tolist(), strict=True)
        for (x1, y1, x2, y2), label, score in rows:
            known_score = None if np.isnan(score) else score
            in_right_half = x1 + x2 > size[0]
            mark = BoxMark(
                kind=kind,
                x=round(x1, 1),
                y=round(y1, 1),
                width=round(x2 - x1, 1),
                height=round(y2 - y1, 1),
                title=f"{kind}: {label_text(names[label], known_score)}",
                text=label_text(shortened(names[label]), known_score),
                text_x=round(x2 if in_right_half else x1, 1),
                text_y=round(y1 - 0.3 * letter if y1 > 1.2 * letter else y1 + letter, 1),
                text_anchor="end" if in_right_half else "start",
            )
            marks.append(mark)
    return sorted(marks, key=lambda mark: -mark.width * mark.height)


def _data_uri(image: np.ndarray) -> str:
    """image: (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    scale = min(1, MAX_SIDE / max(height, width))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    _, encoded = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
