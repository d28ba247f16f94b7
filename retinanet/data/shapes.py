"""Shapes, an embedded data set: images painted from fixed seeds, to train a detector without a download."""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from retinanet.data.dataset import Dataset, Strings
from retinanet.errors import DataError

SIDE = 128
COUNTS = {"train": 1200, "val": 300, "test": 300}

# each form and each hue occurs in two classes, so that only both determine the class
CLASSES = ("red circle", "blue circle", "red square", "green square", "green triangle", "blue triangle")
HUES = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}
CORNERS = {"circle": 40, "square": 4, "triangle": 3}

SMALLEST, LARGEST = 10, 64  # pixels of a box side
MOST_COVERED = 0.6  # share of an object that others may hide; objects hidden more are left out


@dataclass(frozen=True)
class Piece:
    """A form in an image. label: -1 for grey distractors. box: xyxy, tight around the visible pixels.

    visible: (SIDE, SIDE) bool, the pixels that no piece in front hides.
    """

    label: int
    colour: tuple[float, float, float]
    box: tuple[int, int, int, int]
    visible: np.ndarray


@dataclass(kw_only=True)
class Shapes(Dataset):
    """A `Dataset` that paints its images; image i depends on `split` and i alone."""

    split: str

    def image(self, index: int) -> np.ndarray:
        """Pixels of image `index`, (128, 128, 3) uint8 RGB."""
        rng = _generator(self.split, index)
        return paint(list(pieces(rng)), rng)


def open_shapes(split: str) -> Dataset:
    """A data set of images of 128 x 128 px with 1 to 6 objects of 10 to 64 px in 6 classes.

    split: "train", 1200 images; "val", "test", 300 each. Raises: DataError for another split.
    """
    if split not in COUNTS:
        raise DataError(f"shapes has no split {split!r}, expected {', '.join(COUNTS)}")
    count = COUNTS[split]
    rows, starts = [], [0]
    for index in range(count):
        for piece in pieces(_generator(split, index)):
            if piece.label >= 0:
                rows.append((piece.label, *piece.box, np.count_nonzero(piece.visible)))
        starts.append(len(rows))
    labels, x1, y1, x2, y2, areas = np.array(rows, np.float64).T.copy()
    return Shapes(
        classes=CLASSES,
        category_ids=tuple(range(1, len(CLASSES) + 1)),
        folder=Path(),
        files=Strings(f"shapes-{split}-{index:05}.png" for index in range(count)),
        image_ids=np.arange(count, dtype=np.int64),
        sizes=np.full((count, 2), SIDE, np.int32),
        sizes_annotated=True,
        first_object=np.array(starts, np.int64),
        boxes=np.stack([x1, y1, x2 - x1, y2 - y1], axis=1),
        areas=areas,
        labels=labels.astype(np.int32),
        crowd=np.zeros(len(rows), bool),
        annotation_ids=np.arange(1, len(rows) + 1, dtype=np.int64),
        split=split,
    )


def pieces(rng: np.random.Generator) -> Iterator[Piece]:
    """The pieces of one image, front to back: 1 to 6 objects, the first in front, and up to 3 grey distractors."""
    labels = rng.integers(len(CLASSES), size=rng.integers(1, 7))
    others = rng.permutation(np.append(labels[1:], np.full(rng.integers(4), -1)))
    covered = np.zeros((SIDE, SIDE), np.uint8)
    for label in [labels[0], *others]:
        hue_name, form = CLASSES[label if label >= 0 else rng.integers(len(CLASSES))].split()
        # log-uniform: as many of 10 to 25 px as of 25 to 64
        size = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
        stretch = rng.uniform(-0.2, 0.2)
        w, h = np.clip([size * np.exp(stretch), size * np.exp(-stretch)], SMALLEST, LARGEST).astype(int)
        x, y = rng.integers(SIDE - w + 1), rng.integers(SIDE - h + 1)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        polygon = _polygon(CORNERS[form], rng.uniform(-np.pi / 9, np.pi / 9))
        cv2.fillConvexPoly(mask, np.rint(polygon * (w - 1, h - 1) + (x, y)).astype(np.int32), 1)
        saturation = rng.uniform(0.4, 0.9) if label >= 0 else rng.uniform(0, 0.05)
        colour = colorsys.hsv_to_rgb((HUES[hue_name] + rng.uniform(-0.06, 0.06)) % 1, saturation, rng.uniform(0.35, 1))

        visible = mask > covered
        if np.count_nonzero(visible) < (1 - MOST_COVERED) * np.count_nonzero(mask):
            continue
        x1, y1, w, h = cv2.boundingRect(visible.view(np.uint8))
        if min(w, h) < SMALLEST:
            continue
        covered |= visible
        yield Piece(int(label), colour, (x1, y1, x1 + w, y1 + h), visible)


def paint(scene: list[Piece], rng: np.random.Generator) -> np.ndarray:
    """`scene` on a grey, textured background with noise: (128, 128, 3) uint8 RGB."""
    ground = np.full((SIDE, SIDE), rng.uniform(60, 190), np.float32)
    for cells in (2, 4, 8, 16, 32, 64):
        texture = rng.standard_normal((cells, cells), np.float32) * rng.uniform(2, 14)
        ground += cv2.resize(texture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    picture = np.repeat(ground[..., None], 3, axis=2)
    for piece in scene:
        picture[piece.visible] = np.multiply(piece.colour, 255)
    picture += rng.standard_normal(picture.shape, np.float32) * rng.uniform(4, 20)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _generator(split: str, index: int) -> np.random.Generator:
    return np.random.default_rng((0, list(COUNTS).index(split), index))


def _polygon(corners: int, angle: float) -> np.ndarray:
    """Regular polygon rotated by `angle` (radians), stretched to the unit square: (corners, 2) xy."""
    turns = angle + np.pi / corners + 2 * np.pi * np.arange(corners) / corners
    points = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / (high - low)
