"""Boxes with class names and scores, drawn on an image."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

FONT = "uni"  # OpenCV's Unicode font; its older fonts have only ASCII
OUTLINE = (20, 20, 20)
MIN_LETTER, MAX_LETTER = 9, 40  # height of the letters in pixels


def draw_detections(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None, classes: Sequence[str]
) -> np.ndarray:
    """A copy of `image` with a box and a tag such as "person 0.93" for each detection, the best scores on top.

    Args:
        image: (H, W, 3) uint8 RGB. boxes: (D, 4) xyxy pixels. labels: (D,) int, indices into `classes`.
        scores: (D,) 0 to 1; None, as for annotations: no numbers, drawn in the given order.
    Returns: (H, W, 3) uint8 RGB.
    """
    canvas = np.array(image, order="C")
    short_side = min(canvas.shape[:2])
    thickness, letter = max(1, round(short_side / 250)), int(np.clip(short_side / 34, MIN_LETTER, MAX_LETTER))
    rim = thickness // 2 + 1  # a dark line around the box, for a background of the same colour
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable").tolist()
    corners, colours = [_corners(canvas, box) for box in boxes], [class_colour(label) for label in labels.tolist()]
    for i in order:
        x1, y1, x2, y2 = corners[i]
        cv2.rectangle(canvas, (x1 - rim, y1 - rim), (x2 + rim, y2 + rim), OUTLINE, 1)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colours[i], thickness)
    for i in order:  # after all boxes, so that no line crosses a name
        x1, y1, _, _ = corners[i]
        text = label_text(classes[labels[i]], None if scores is None else scores[i])
        draw_tag(canvas, (x1 - thickness // 2, y1), text, colours[i], letter)
    return canvas


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB, 0 to 255; hues of successive labels are a golden angle apart, so that few classes differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def label_text(name: str, score: float | None) -> str:
    """Such as "person 0.93", or the name alone without a score."""
    return name if score is None else f"{name} {score:.2f}"


def draw_tag(canvas: np.ndarray, corner: tuple[int, int], text: str, colour: tuple[int, int, int], letter: int) -> None:
    """Write `text` on a background of `colour` above `corner`, shifted to lie inside the canvas.

    canvas: (H, W, 3) uint8 RGB, changed in place. corner: lower left (x, y) in pixels. letter: height in pixels.
    """
    height, width = canvas.shape[:2]
    x, y = corner
    font = cv2.FontFace(FONT)
    _, _, text_width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, letter)
    tag_width, tag_height = text_width + letter // 2, round(1.35 * letter)
    left = max(0, min(x, width - tag_width))
    top = y - tag_height if y >= tag_height else max(0, min(y, height - tag_height))
    cv2.rectangle(canvas, (left, top), (left + tag_width - 1, top + tag_height - 1), colour, cv2.FILLED)
    luminance = np.dot(colour, (0.299, 0.587, 0.114))  # ITU-R BT.601
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (left + letter // 4, top + round(1.05 * letter)), ink, font, letter)


def _corners(canvas: np.ndarray, box: np.ndarray) -> tuple[int, int, int, int]:
    """x and y of the first and last pixels inside the box."""
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = np.rint(np.clip(box, 0, [width, height, width, height])).astype(int).tolist()
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)
