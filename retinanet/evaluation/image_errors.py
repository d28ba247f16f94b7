"""Which boxes of an image are right, wrong and missed at the thresholds of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import WRONG, coco_eval, ignored, images_of, labels_of, matches
from retinanet.evaluation.error_analysis import above


@dataclass(frozen=True)
class Boxes:
    """boxes: (n, 4) float64, xywh pixels. labels: (n,) 0..K-1. scores: (n,), of objects NaN."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class ImageErrors:
    """Image `index` of a data set.

    right: detections that COCO's matching gives an object at IoU 0.5. wrong: those it gives none. missed: objects that
    no detection took. Crowds, objects that do not count and detections on either are in none of them.
    """

    index: int
    right: Boxes
    wrong: Boxes
    missed: Boxes

    @property
    def faults(self) -> int:
        return len(self.wrong) + len(self.missed)


def verdicts(dataset: Dataset, results: np.ndarray, thresholds: Sequence[float]) -> list[ImageErrors]:
    """One for each image of `dataset`. results: (D, 7). thresholds: K, which a detection's score has to exceed."""
    found = above(dataset, results, thresholds)
    objects = matches(coco_eval(dataset, found), len(found))
    missed = ~ignored(dataset.areas, dataset.crowd)
    missed[objects[objects >= 0]] = False
    images, seen = images_of(dataset, found), (found[:, 1:5], labels_of(dataset, found), found[:, 5])
    truth = (dataset.boxes, dataset.labels, np.full(len(dataset.boxes), np.nan))
    parts = (
        _by_image(len(dataset), images, objects >= 0, *seen),
        _by_image(len(dataset), images, objects == WRONG, *seen),
        _by_image(len(dataset), dataset.image_index, missed, *truth),
    )
    return [ImageErrors(index, *of_image) for index, of_image in enumerate(zip(*parts, strict=True))]


def worst(of_images: Sequence[ImageErrors], most: int) -> list[ImageErrors]:
    """Up to `most` of those with a fault, most faults first, equal ones in their order."""
    return sorted((each for each in of_images if each.faults), key=lambda each: -each.faults)[:most]


def _by_image(images: int, owners: np.ndarray, chosen: np.ndarray, *columns: np.ndarray) -> list[Boxes]:
    """The `chosen` rows of boxes, labels and scores, parted by image. owners: each row's. chosen: bool."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    ends = np.cumsum(np.bincount(owners[rows], minlength=images))[:-1]
    return [Boxes(*part) for part in zip(*(np.split(column[rows], ends) for column in columns), strict=True)]
