"""Coverage: how well the best anchor of each object overlaps it, without a look at any pixel.

Of one shape, the anchor that overlaps an object most stands in the cell nearest to the object's centre: moving away
along either axis shrinks what the two share and nothing else. So A * L anchors per object tell what all of them would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinanet.config.schema import Config
from retinanet.data.dataset import Dataset
from retinanet.data.transforms import Resizing, padded, resized_size, training_resizings
from retinanet.errors import DataError
from retinanet.model.anchors import STRIDES, AnchorShapes, cell_anchors

LEVELS = ("P3", "P4", "P5", "P6", "P7")
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's areas, upper end excluded
CHUNK = 1 << 16  # objects at once: about 40 MB of temporaries for 9 anchors
WORST = 10


@dataclass(frozen=True)
class Objects:
    """M objects as training sees them after the resize; an object counts once per short side.

    boxes: (M, 4) float64 xyxy pixels of the resized image. image_sizes: (M, 2) int64, its height and width.
    indices: (M,) int64, rows in the data set's columns. images: (M,) int64, indices of images.
    """

    boxes: np.ndarray
    image_sizes: np.ndarray
    indices: np.ndarray
    images: np.ndarray


@dataclass(frozen=True)
class Share:
    """Objects of one kind. covered: best IoU >= foreground_iou; ignored: below that, >= background_iou; missed: the rest.

    mean_iou: of their best anchors; None without objects.
    """

    name: str
    objects: int
    covered: int
    ignored: int
    missed: int
    mean_iou: float | None


@dataclass(frozen=True)
class WorstObject:
    """width, height: pixels after the resize. iou: of its best anchor."""

    file: str
    annotation_id: int
    label: str
    width: float
    height: float
    iou: float


@dataclass(frozen=True)
class Coverage:
    """All objects, and the same by the level of the best anchor, by COCO's sizes (original pixels) and by class.

    worst: the objects of the lowest IoU, lowest first; one that is seen at several short sides stands there once.
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
    """The objects of `dataset` as `config` trains on them, and how its anchors cover them. Raises: DataError."""
    a = config.anchors
    objects = resized_objects(dataset, training_resizings(config.data, config.train.augment))
    return objects, coverage(dataset, objects, AnchorShapes.from_config(a), a.foreground_iou, a.background_iou)


def resized_objects(dataset: Dataset, resizings: Sequence[Resizing]) -> Objects:
    """All objects of `dataset` but crowds, as `resize` makes them by each of `resizings`.

    Random crops and flips are left out: each image is taken as it is. Raises: DataError if there are no objects.
    """
    kept = np.flatnonzero(~dataset.crowd)
    if not len(kept):
        raise DataError(f"{dataset.folder}: none of its {len(dataset)} images has an object; coverage needs objects")
    images = dataset.image_index[kept]
    x, y, w, h = dataset.boxes[kept].T
    height, width = dataset.sizes[images].T
    boxes = np.clip(np.stack([x, y, x + w, y + h], axis=1), 0, np.stack([width, height, width, height], axis=1))
    boxes = boxes.astype(np.float32)  # as a Sample's are, here and after the resize
    resized, sizes = [], []
    for resizing in resizings:
        new = np.array([resized_size((rows, columns), resizing) for rows, columns in dataset.sizes.tolist()])
        ratios = (new / dataset.sizes)[images][:, [1, 0, 1, 0]]
        resized.append((boxes * ratios).astype(np.float32).astype(np.float64))
        sizes.append(new[images])
    times = len(resizings)
    return Objects(np.concatenate(resized), np.concatenate(sizes), np.tile(kept, times), np.tile(images, times))


def level_cells(image_sizes: np.ndarray, stride: int) -> np.ndarray:
    """Cells (..., 2) that one level has for images of `image_sizes` (..., 2), in pixels before the padding.

    Both in the order height, width. The padding is that of the image alone; a larger one beside it in a batch adds
    cells beyond its own.
    """
    return -(-padded(image_sizes) // stride)  # P6 and P7 are halved by convolutions that round up


def anchor_sides(shapes: AnchorShapes) -> np.ndarray:
    """(L, A, 2) float64, width and height in pixels of the anchors of one cell of each level."""
    cells = np.stack([cell.double().numpy() for cell in cell_anchors(shapes)])  # (L, A, 4)
    return cells[..., 2:] - cells[..., :2]


def nearest_cells(boxes: np.ndarray, image_sizes: np.ndarray, whole_pixels: bool = False) -> np.ndarray:
    """How far the edges of `boxes` lie from the centre of the nearest cell of each level.

    Args:
        boxes: (M, 4) xyxy pixels. image_sizes: (M, 2), height and width in pixels of the image of each box.
        whole_pixels: as in `AnchorShapes`.
    Returns: (L, 4, M) pixels, distances to the left, up, right and down; negative where the edge lies the other way.
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

    Args:
        distances: (L, 4, M), as `nearest_cells` gives them. sides: (L, A, 2), as `anchor_sides` does.
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

    Equal to the maximum over `image_anchors`, but for the rounding of that one's float32 (up to 4e-6 at 2,000 pixels).

    Args:
        boxes: (M, 4) xyxy pixels of the resized image. image_sizes: (M, 2), its height and width.
    """
    sides = anchor_sides(shapes)
    iou, level = np.zeros(len(boxes)), np.zeros(len(boxes), np.int64)
    for start in range(0, len(boxes), CHUNK):
        part = slice(start, start + CHUNK)
        ious = level_ious(nearest_cells(boxes[part], image_sizes[part], shapes.whole_pixels), sides)
        iou[part], level[part] = ious.max(axis=0), ious.argmax(axis=0)
    return iou, level


def coverage(
    dataset: Dataset,
    objects: Objects,
    shapes: AnchorShapes,
    foreground_iou: float = 0.5,
    background_iou: float = 0.4,
) -> Coverage:
    """How many of `objects`, which are those of `dataset`, find an anchor that `match` would give them.

    An object whose best anchor overlaps another one still more counts as covered too.
    """
    iou, level = best_anchors(objects.boxes, objects.image_sizes, shapes)
    labels, areas = dataset.labels[objects.indices], dataset.areas[objects.indices]

    def share(name: str, chosen: np.ndarray) -> Share:
        values = iou[chosen]
        covered = int(np.count_nonzero(values >= foreground_iou))
        missed = int(np.count_nonzero(values < background_iou))
        mean = float(values.mean()) if len(values) else None
        return Share(name, len(values), covered, len(values) - covered - missed, missed, mean)

    worst, seen = [], set()
    for row in np.argsort(iou, kind="stable").tolist():
        index = int(objects.indices[row])
        if index in seen:
            continue
        seen.add(index)
        x1, y1, x2, y2 = objects.boxes[row].tolist()
        worst.append(
            WorstObject(
                file=dataset.files[int(objects.images[row])],
                annotation_id=int(dataset.annotation_ids[index]),
                label=dataset.classes[labels[row]],
                width=x2 - x1,
                height=y2 - y1,
                iou=float(iou[row]),
            )
        )
        if len(worst) == WORST:
            break
    return Coverage(
        all=share("all", np.ones(len(iou), bool)),
        per_level=[share(name, level == index) for index, name in enumerate(LEVELS)],
        per_size=[share(name, (areas >= low) & (areas < high)) for name, (low, high) in SIZES.items()],
        per_class=[share(name, labels == index) for index, name in enumerate(dataset.classes)],
        worst=worst,
    )
