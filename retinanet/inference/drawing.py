"""Boxes with class names and scores, drawn on a picture."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

OUTLINE = (20, 20, 20)


def draw_detections(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None, classes: Sequence[str]
) -> np.ndarray:
    """A copy of `image` with a box and a tag, such as "person 0.93", for each detection; the best scores lie on top.

    A class keeps its colour in every picture. Lines and letters grow with the picture.

    Args:
        image: (H, W, 3) uint8 RGB. boxes: (D, 4) xyxy pixels. labels: (D,) int, indices into `classes`.
        scores: (D,) 0 to 1; None, as for annotations, leaves the numbers out and draws in the given order.
    Returns: (H, W, 3) uint8 RGB.
    """
    canvas = np.array(image, order="C")
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    for index in order:
        _draw_box(canvas, boxes[index], class_colour(int(labels[index])))
    # After all boxes, so that no line crosses a name.
    for index in order:
        label = int(labels[index])
        text = classes[label] if scores is None else f"{classes[label]} {scores[index]:.2f}"
        _draw_tag(canvas, boxes[index], text, class_colour(label))
    return canvas


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB, 0 to 255; each label's hue is a golden angle from the one before, so the first ones differ most."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_box(canvas: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    thickness = _thickness(canvas)
    x1, y1, x2, y2 = _corners(canvas, box)
    # The dark rim parts the line from a ground of its own colour.
    rim = thickness // 2 + 1
    cv2.rectangle(canvas, (x1 - rim, y1 - rim), (x2 + rim, y2 + rim), OUTLINE, 1)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)


def _draw_tag(canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int]) -> None:
    """Above the box, or in its upper edge where the picture ends; moved left as far as the picture asks."""
    height, width = canvas.shape[:2]
    x1, y1, _, _ = _corners(canvas, box)
    letter = int(np.clip(min(height, width) / 34, 9, 40))
    font = cv2.FontFace("uni")  # OpenCV's own font for all scripts; its older ones know ASCII alone
    _, _, text_width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, letter)
    tag_width, tag_height = text_width + letter // 2, round(1.35 * letter)
    left = max(0, min(x1 - _thickness(canvas) // 2, width - tag_width))
    top = y1 - tag_height if y1 >= tag_height else max(0, min(y1, height - tag_height))
    cv2.rectangle(canvas, (left, top), (left + tag_width - 1, top + tag_height - 1), colour, cv2.FILLED)
    luminance = np.dot(colour, (0.299, 0.587, 0.114))  # ITU-R BT.601
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (left + letter // 4, top + round(1.05 * letter)), ink, font, letter)


def _thickness(canvas: np.ndarray) -> int:
    return max(1, round(min(canvas.shape[:2]) / 250))


def _corners(canvas: np.ndarray, box: np.ndarray) -> tuple[int, int, int, int]:
    """The first and the last pixel inside the box."""
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = np.rint(np.clip(box, 0, [width, height, width, height])).astype(int).tolist()
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)
