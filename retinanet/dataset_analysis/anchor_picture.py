"""Pictures of anchors: of one cell of each level, and of the matches of each object in training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from retinanet.config.schema import AnchorConfig, Config
from retinanet.data.dataset import Dataset, blank_sample
from retinanet.data.images import read_image
from retinanet.data.transforms import padded, resize, training_resizings
from retinanet.dataset_analysis.anchor_coverage import LEVELS, anchor_sides, best_anchors, level_cells
from retinanet.errors import DataError
from retinanet.inference.drawing import FONT, draw_tag
from retinanet.losses.criterion import make_matching
from retinanet.model.anchors import STRIDES, AnchorShapes, image_anchors
from retinanet.plotting import BLUE, GREEN, ORANGE, SKY_BLUE, VERMILLION, YELLOW, rgb

Colour = tuple[int, int, int]  # RGB, 0 to 255
LEVEL_COLOURS = tuple(rgb(colour) for colour in (YELLOW, ORANGE, VERMILLION, GREEN, BLUE))  # P3 to P7
MATCHED, IGNORED, MISSED, CROWD = rgb(SKY_BLUE), rgb(YELLOW), rgb(VERMILLION), (160, 160, 160)
BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
OUTSIDE = 225  # grey level beyond the image
PANEL_HEIGHT = 860  # pixels of a panel without its legend
MATCHED_OPACITY = 0.6  # of matched anchors, of which an object may have 40
LEGEND_LETTER, TAG_LETTER = 17, 13  # pixels, the height of the letters


@dataclass(frozen=True)
class Panel:
    """canvas: (H, W, 3) uint8 RGB. legend: a colour and its meaning for each line."""

    canvas: np.ndarray
    legend: list[tuple[Colour, str]]


@dataclass(frozen=True)
class Picture:
    """canvas: (H, W, 3) uint8 RGB. source: path of the image. with_objects: whether it belongs to the data set."""

    canvas: np.ndarray
    source: str
    with_objects: bool


class _View:
    """A canvas that shows a window of an image and its surroundings, `scale` times as large.

    window: xyxy in pixels of the image; it may reach beyond the image. whitened: 0 shows the image, 1 shows white.
    """

    def __init__(self, image: np.ndarray, window: tuple[float, float, float, float], whitened: float):
        left, top, right, bottom = window
        self.origin, self.scale = np.array([left, top] * 2), PANEL_HEIGHT / (bottom - top)
        self.canvas = np.full((PANEL_HEIGHT, round((right - left) * self.scale), 3), OUTSIDE, np.uint8)
        height, width = image.shape[:2]
        shown = whitened * 255 + (1 - whitened) * image
        # Boxes refer to the corners of pixels, but warpAffine maps their centres.
        shift = -self.scale * self.origin[:2] + (self.scale - 1) / 2
        matrix = np.array([[self.scale, 0, shift[0]], [0, self.scale, shift[1]]])
        size = (self.canvas.shape[1], self.canvas.shape[0])
        smooth = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        warped = cv2.warpAffine(shown.astype(np.uint8), matrix, size, flags=smooth, borderMode=cv2.BORDER_REPLICATE)
        x1, y1, x2, y2 = self.corners(np.array([0, 0, width, height]))
        y1, x1 = max(0, y1), max(0, x1)
        self.canvas[y1 : y2 + 1, x1 : x2 + 1] = warped[y1 : y2 + 1, x1 : x2 + 1]

    def corners(self, box: np.ndarray) -> list[int]:
        return np.rint((box - self.origin) * self.scale).astype(int).tolist()

    def box(self, box: np.ndarray, colour: Colour, thickness: int) -> None:
        x1, y1, x2, y2 = self.corners(box)
        cv2.rectangle(self.canvas, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)


def anchor_picture(config: Config, dataset: Dataset | None, file: Path) -> Picture:
    """The anchors on one image and, if it belongs to `dataset`, those matched to its objects in training.

    The image is resized as for training, to the largest short side if there are several.
    Raises: DataError if the image cannot be read, or if several images of the data set have its name.
    """
    index = find_image(dataset, file) if dataset is not None else None
    if dataset is not None and index is not None:
        sample, source = dataset[index], str(dataset.folder / dataset.files[index])
    else:
        image = read_image(file, max_pixels=config.data.max_pixels)
        sample, source = replace(blank_sample(0, str(file)), image=image), str(file)
    resizings = training_resizings(config.data, config.train.augment)
    sample = resize(sample, max(resizings, key=lambda resizing: resizing.short_side))
    panels = [cells_panel(sample.image, AnchorShapes.from_config(config.anchors))]
    if index is not None:
        panels.append(matches_panel(sample.image, sample.boxes, sample.crowd, config.anchors))
    return Picture(beside(panels), source, index is not None)


def find_image(dataset: Dataset, file: Path) -> int | None:
    """Index of the image at the path `file`, else of the only one with its name, or None. Raises: DataError."""
    names = [dataset.files[index] for index in range(len(dataset))]
    where, folder = Path(os.path.realpath(file)), Path(os.path.realpath(dataset.folder))
    in_folder = where.relative_to(folder) if where.is_relative_to(folder) else file
    for path in (in_folder.as_posix(), file.as_posix()):
        if path in names:
            return names.index(path)
    same = [index for index, name in enumerate(names) if name.rpartition("/")[2] == file.name]
    if len(same) > 1:
        raise DataError(f"{file}: {len(same)} images of the data set have this name; give the path of one")
    return same[0] if same else None


def cells_panel(image: np.ndarray, shapes: AnchorShapes) -> Panel:
    """The anchors of the cell of each level that is nearest to the image's centre, marked by a dot.

    image: (H, W, 3) uint8 RGB, resized as for training. The panel extends beyond it by up to half its width and height.
    """
    size = np.array(image.shape[:2])
    height, width = size.tolist()
    boxes, centers = [], []
    for stride, sides in zip(STRIDES, anchor_sides(shapes), strict=True):
        center = np.minimum(np.rint(size / 2 / stride), level_cells(size, stride) - 1)[::-1] * stride  # xy
        boxes.append(np.concatenate([center - sides / 2, center + sides / 2], axis=1))  # (A, 4)
        centers.append(center)
    every = np.concatenate(boxes)
    left, top = np.maximum(np.minimum(every[:, :2].min(axis=0) - 8, 0), (-width / 2, -height / 2))
    right, bottom = np.minimum(np.maximum(every[:, 2:].max(axis=0) + 8, (width, height)), (1.5 * width, 1.5 * height))
    view = _View(image, (left, top, right, bottom), whitened=0.35)
    for level in reversed(range(len(boxes))):  # small anchors on top
        for box in boxes[level]:
            view.box(box, LEVEL_COLOURS[level], 1 if level == 0 else 2)
    for center, colour in zip(reversed(centers), reversed(LEVEL_COLOURS), strict=True):
        x, y, _, _ = view.corners(np.tile(center, 2))
        cv2.circle(view.canvas, (x, y), 5, INK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(view.canvas, (x, y), 4, colour, cv2.FILLED, cv2.LINE_AA)
    legend = []
    for name, stride, side, colour in zip(LEVELS, STRIDES, shapes.sizes, LEVEL_COLOURS, strict=True):
        low, high = side * min(shapes.scales), side * max(shapes.scales)
        legend.append((colour, f"{name}, stride {stride} px: anchor sides {low:.0f} to {high:.0f} px"))
    return Panel(view.canvas, legend)


def matches_panel(image: np.ndarray, boxes: np.ndarray, crowd: np.ndarray, config: AnchorConfig) -> Panel:
    """Each object in thick lines and the anchors that training matches to it in thin ones, coloured by its outcome.

    Matched: at least one anchor is matched to the object. Only in the ignore band: none is, but one has an IoU of at
    least background_iou; ATSS has no such band. Not covered: neither. A tag shows the best IoU and the number of
    matched anchors.

    image: (H, W, 3) uint8 RGB, resized as for training. boxes: (M, 4) float32 xyxy pixels. crowd: (M,) bool.
    """
    height, width = image.shape[:2]
    shapes, adaptive = AnchorShapes.from_config(config), config.matching == "atss"
    levels = image_anchors((padded(height), padded(width)), shapes)
    matched = make_matching(config)(levels, torch.as_tensor(boxes), torch.as_tensor(crowd)).numpy()
    anchors = torch.cat(levels).numpy()
    image_sizes = np.tile([height, width], (len(boxes), 1))
    best, _ = best_anchors(boxes.astype(np.float64), image_sizes, shapes)
    view = _View(image, (-width / 16, -height / 16, width * 17 / 16, height * 17 / 16), whitened=0.25)
    plain = view.canvas.copy()
    outcomes, tags = [], []
    for index, iou in enumerate(best):
        count = int((matched == index).sum())
        ignored = not adaptive and iou >= config.background_iou
        outcome = CROWD if crowd[index] else MATCHED if count else IGNORED if ignored else MISSED
        outcomes.append(outcome)
        tags.append("" if crowd[index] else f"{iou:.2f} x{count}" if count else f"{iou:.2f}")
        for box in anchors[matched == index]:
            view.box(box, outcome, 1)
    view.canvas = np.rint(MATCHED_OPACITY * view.canvas + (1 - MATCHED_OPACITY) * plain).astype(np.uint8)
    for box, outcome in zip(boxes, outcomes, strict=True):
        x1, y1, x2, y2 = view.corners(box)
        thick = 3 if min(x2 - x1, y2 - y1) > 30 else 1
        view.box(box, INK, thick + 2)
        view.box(box, outcome, thick)
    for box, outcome, tag in zip(boxes, outcomes, tags, strict=True):
        if tag:
            x, y, _, _ = view.corners(box)
            draw_tag(view.canvas, (x, y - 3), tag, outcome, TAG_LETTER)
    counts = {colour: outcomes.count(colour) for colour in (MATCHED, IGNORED, MISSED, CROWD)}
    meanings = _outcomes(config)
    return Panel(view.canvas, [(c, f"{counts[c]} {text}") for c, text in meanings.items() if c != CROWD or counts[c]])


def _outcomes(config: AnchorConfig) -> dict[Colour, str]:
    """What the colours of objects mean."""
    tag, crowd = "(tag: best IoU x matched anchors)", "crowd: matched to no anchor"
    if config.matching == "atss":
        return {
            MATCHED: f"matched: ATSS selects anchors {tag}",
            MISSED: "not covered: ATSS selects no anchor, or its anchors match others",
            CROWD: crowd,
        }
    high, low = f"{config.foreground_iou:g}", f"{config.background_iou:g}"
    return {
        MATCHED: f"matched: IoU >= {high} {tag}",
        IGNORED: f"only in the ignore band: IoU {low} to {high}, or its anchors match others",
        MISSED: f"not covered: IoU < {low}",
        CROWD: crowd,
    }


def beside(panels: Sequence[Panel]) -> np.ndarray:
    """The panels side by side, each above its legend: (H, W, 3) uint8 RGB."""
    lines = max(len(panel.legend) for panel in panels)
    step, font = round(1.5 * LEGEND_LETTER), cv2.FontFace(FONT)
    parts = []
    for panel in panels:
        texts = [cv2.getTextSize((0, 0), text, (0, 0), font, LEGEND_LETTER)[2] for _, text in panel.legend]
        width = max(panel.canvas.shape[1], *(text + 3 * LEGEND_LETTER for text in texts))
        part = np.full((PANEL_HEIGHT + step * lines + LEGEND_LETTER, width + LEGEND_LETTER, 3), BACKGROUND, np.uint8)
        part[:PANEL_HEIGHT, : panel.canvas.shape[1]] = panel.canvas
        for index, (colour, text) in enumerate(panel.legend):
            bottom = PANEL_HEIGHT + step * (index + 1)
            cv2.rectangle(part, (4, bottom - LEGEND_LETTER + 2), (4 + LEGEND_LETTER, bottom + 2), colour, cv2.FILLED)
            cv2.rectangle(part, (4, bottom - LEGEND_LETTER + 2), (4 + LEGEND_LETTER, bottom + 2), INK, 1)
            cv2.putText(part, text, (4 + 2 * LEGEND_LETTER, bottom), INK, font, LEGEND_LETTER)
        parts.append(part)
    return np.concatenate(parts, axis=1)
