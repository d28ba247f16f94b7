"""Coverage: the IoU of each object with its best anchor, from the annotations alone.

Among anchors of one shape, the one in the cell nearest to the object's centre has the highest IoU, so only A * L
anchors per object need to be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retinanet.config.schema import AnchorConfig, Config
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import Resizing, padded, resized_size, training_resizings
from retinanet.errors import DataError
from retinanet.losses.atss import has_selected_anchor
from retinanet.model.anchors import STRIDES, AnchorShapes, cell_anchors, image_anchors

LEVELS = ("P3", "P4", "P5", "P6", "P7")
SIZES = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, np.inf),
}  # COCO's areas in square pixels, upper end excluded
OBJECTS_PER_CHUNK = 1 << 16  # about 40 MB of temporaries for 9 anchors
WORST = 10  # number of objects that a coverage lists


@dataclass(frozen=True)
class Objects:
    """M objects resized as in training; in multi-scale training, each object occurs once per short side.

    boxes: (M, 4) float64 xyxy pixels of the resized image. image_sizes: (M, 2) int64, its height and width.
    indices: (M,) int64, of the objects in the data set's columns.
    """

    boxes: np.ndarray
    image_sizes: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Share:
    """The coverage of one group of objects, by the IoU of each with its best anchor.

    objects: their number. covered: number with IoU >= foreground_iou; missed: below background_iou; ignored: between
    the two. With ATSS, covered: number with a selected anchor; missed: the others. mean_iou: None without objects.
    """

    name: str
    objects: int
    covered: int
    ignored: int
    missed: int
    mean_iou: float | None


@dataclass(frozen=True)
class WorstObject:
    """An object of low IoU. width, height: pixels after the resize. iou: with its best anchor."""

    file: str
    annotation_id: int
    label: str
    width: float
    height: float
    iou: float


@dataclass(frozen=True)
class Coverage:
    """Coverage of all objects, by level of the best anchor, by COCO's sizes in original pixels, and by class.

    worst: the objects with the lowest IoU, lowest first, without duplicates.
    """

    all: Share
    per_level: list[Share]
    per_size: list[Share]
    per_class: list[Share]
    worst: list[WorstObject]

    @property
    def share(self) -> float:
        """Share of all objects that are covered, 0 to 1."""
        return self.all.covered / self.all.objects


def data_coverage(config: Config, dataset: Dataset) -> tuple[Objects, Coverage]:
    """Resized objects of `dataset` and their coverage by the anchors of `config`. Raises: DataError without objects."""
    objects = resized_objects(dataset, training_resizings(config.data, config.train.augment))
    return objects, coverage(dataset, objects, config.anchors)


def resized_objects(dataset: Dataset, resizings: Sequence[Resizing]) -> Objects:
    """All objects of `dataset` except crowds, after each of `resizings`. Raises: DataError without objects."""
    kept = np.flatnonzero(~dataset.crowd)
    if not len(kept):
        raise DataError(f"{dataset.folder}: none of its {len(dataset)} images has an object; coverage needs objects")
    images = dataset.image_index[kept]
    resized, sizes = [], []
    for resizing in resizings:
        new = np.array([resized_size((rows, columns), resizing) for rows, columns in dataset.sizes.tolist()])
        resized.append(resized_boxes(dataset, kept, new[images]))
        sizes.append(new[images])
    return Objects(np.concatenate(resized), np.concatenate(sizes), np.tile(kept, len(resizings)))


def resized_boxes(dataset: Dataset, objects: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes of some objects in their resized images: (M, 4) float64 xyxy pixels.

    objects: (M,) indices in the data set's columns. sizes: (M, 2) or (2,), height and width of the resized images.
    """
    before = dataset.sizes[dataset.image_index[objects]]  # (M, 2)
    x, y, w, h = dataset.boxes[objects].T
    height, width = before.T
    boxes = np.clip(np.stack([x, y, x + w, y + h], axis=1), 0, np.stack([width, height, width, height], axis=1))
    boxes = boxes.astype(np.float32)  # as in a Sample, here and after the resize
    return (boxes * (sizes / before)[:, [1, 0, 1, 0]]).astype(np.float32).astype(np.float64)


def level_cells(image_sizes: np.ndarray, stride: int) -> np.ndarray:
    """Numbers of rows and columns of cells (..., 2) of one level, for unpadded images of (height, width) (..., 2)."""
    return -(-padded(image_sizes) // stride)  # the convolutions to P6 and P7 round up


def anchor_sides(shapes: AnchorShapes) -> np.ndarray:
    """(L, A, 2) float64, width and height in pixels of the anchors of one cell of each level."""
    cells = np.stack([cell.double().numpy() for cell in cell_anchors(shapes)])  # (L, A, 4)
    return cells[..., 2:] - cells[..., :2]


def nearest_cells(boxes: np.ndarray, image_sizes: np.ndarray, whole_pixels: bool) -> np.ndarray:
    """Distances of the edges of `boxes` from the centre of the nearest cell of each level.

    boxes: (M, 4) xyxy pixels. image_sizes: (M, 2), (height, width) of their images. whole_pixels: see `AnchorShapes`.
    Returns: (L, 4, M) pixels to the left, up, right and down; negative for an edge on the other side of the centre.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    levels = []
    for level_stride in STRIDES:
        cells = level_cells(image_sizes, level_stride)  # (M, 2)
        stride = (padded(image_sizes) // cells)[:, ::-1] if whole_pixels else level_stride  # xy
        nearest = np.clip(np.rint(centers / stride), 0, cells[:, ::-1] - 1) * stride
        levels.append(np.concatenate([nearest - boxes[:, :2], boxes[:, 2:] - nearest], axis=1).T)  # (4, M)
    return np.stack(levels)


def level_ious(distances: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """IoU of each object with its best anchor of each level.

    distances: (L, 4, M), from `nearest_cells`. sides: (L, A, 2), from `anchor_sides`.
    Returns: (L, M), 0 to 1.
    """
    levels = []
    for (left, up, right, down), side in zip(distances, sides, strict=True):
        w, h = side.T[:, :, None] / 2  # (A, 1)
        shared = np.maximum(np.minimum(left, w) + np.minimum(right, w), 0)  # (A, M)
        shared *= np.maximum(np.minimum(up, h) + np.minimum(down, h), 0)
        levels.append((shared / (4 * w * h + (left + right) * (up + down) - shared)).max(axis=0))
    return np.stack(levels)


def best_anchors(boxes: np.ndarray, image_sizes: np.ndarray, shapes: AnchorShapes) -> tuple[np.ndarray, np.ndarray]:
    """IoU (M,) of each object with the best of all anchors of its image, and that anchor's level (M,), 0 for P3.

    Equal to the maximum over `image_anchors`, except for the float32 rounding there (up to 4e-6 at 2,000 pixels).

    boxes: (M, 4) xyxy pixels of the resized image. image_sizes: (M, 2), its height and width.
    """
    sides = anchor_sides(shapes)
    iou, level = np.zeros(len(boxes)), np.zeros(len(boxes), np.int64)
    for start in range(0, len(boxes), OBJECTS_PER_CHUNK):
        part = slice(start, start + OBJECTS_PER_CHUNK)
        ious = level_ious(nearest_cells(boxes[part], image_sizes[part], shapes.whole_pixels), sides)
        iou[part], level[part] = ious.max(axis=0), ious.argmax(axis=0)
    return iou, level


def have_selected_anchor(objects: Objects, anchors: AnchorConfig) -> np.ndarray:
    """Whether ATSS selects an anchor for each of the `objects`: (M,) bool."""
    shapes, sizes = AnchorShapes.from_config(anchors), padded(objects.image_sizes)
    found = np.zeros(len(objects.boxes), bool)
    for height, width in np.unique(sizes, axis=0).tolist():
        rows = np.flatnonzero((sizes == (height, width)).all(axis=1))
        boxes = torch.from_numpy(objects.boxes[rows].astype(np.float32))
        found[rows] = has_selected_anchor(image_anchors((height, width), shapes), boxes, shapes.per_cell).numpy()
    return found


def coverage(dataset: Dataset, objects: Objects, anchors: AnchorConfig) -> Coverage:
    """The coverage of the `objects` of `dataset`, even if training matches their best anchors to other objects."""
    iou, level = best_anchors(objects.boxes, objects.image_sizes, AnchorShapes.from_config(anchors))
    labels, areas = dataset.labels[objects.indices], dataset.areas[objects.indices]
    if anchors.matching == "atss":
        covered = have_selected_anchor(objects, anchors)
        missed = ~covered
    else:
        covered, missed = iou >= anchors.foreground_iou, iou < anchors.background_iou

    def share(name: str, chosen: np.ndarray) -> Share:
        objects, yes, no = (int(np.count_nonzero(kind)) for kind in (chosen, covered[chosen], missed[chosen]))
        return Share(name, objects, yes, objects - yes - no, no, float(iou[chosen].mean()) if objects else None)

    order = np.argsort(iou, kind="stable")
    _, first = np.unique(objects.indices[order], return_index=True)  # where each object has its lowest IoU
    worst, images = [], dataset.image_index
    for row in order[np.sort(first)[:WORST]].tolist():
        index = objects.indices[row]
        file, label = dataset.files[int(images[index])], dataset.classes[labels[row]]
        x1, y1, x2, y2 = objects.boxes[row].tolist()
        worst.append(WorstObject(file, int(dataset.annotation_ids[index]), label, x2 - x1, y2 - y1, float(iou[row])))
    return Coverage(
        all=share("all", np.ones(len(iou), bool)),
        per_level=[share(name, level == index) for index, name in enumerate(LEVELS)],
        per_size=[share(name, (areas >= low) & (areas < high)) for name, (low, high) in SIZES.items()],
        per_class=[share(name, labels == index) for index, name in enumerate(dataset.classes)],
        worst=worst,
    )
