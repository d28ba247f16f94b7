"""True positives, false positives and missed objects of each image at the classes' thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import FALSE_POSITIVE, coco_eval, ignored, images_of, labels_of, matched_objects
from retinanet.evaluation.error_analysis import above_thresholds


@dataclass(frozen=True)
class Boxes:
    """boxes: (n, 4) float64 xywh pixels. labels: (n,) 0..K-1. scores: (n,), NaN for objects."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class ImageErrors:
    """The boxes of image `index` by COCO's matching at IoU 0.5, without ignored objects and detections on them.

    true_positives: matched detections. false_positives: unmatched detections. missed: unmatched objects.
    """

    index: int
    true_positives: Boxes
    false_positives: Boxes
    missed: Boxes

    @property
    def errors(self) -> int:
        return len(self.false_positives) + len(self.missed)


def image_errors(dataset: Dataset, results: np.ndarray, thresholds: Sequence[float]) -> list[ImageErrors]:
    """The errors in each image. results: (D, 7). thresholds: K scores that detections must exceed."""
    detections = above_thresholds(results, thresholds)
    matched = matched_objects(coco_eval(dataset, detections), len(detections))
    missed = ~ignored(dataset.areas, dataset.crowd)
    missed[matched[matched >= 0]] = False
    images = images_of(detections)
    of_detections = (detections[:, 1:5], labels_of(detections), detections[:, 5])
    of_objects = (dataset.boxes, dataset.labels, np.full(len(dataset.boxes), np.nan))
    parts = (
        _by_image(len(dataset), images, matched >= 0, *of_detections),
        _by_image(len(dataset), images, matched == FALSE_POSITIVE, *of_detections),
        _by_image(len(dataset), dataset.image_index, missed, *of_objects),
    )
    return [ImageErrors(index, *of_image) for index, of_image in enumerate(zip(*parts, strict=True))]


def worst_images(of_images: Sequence[ImageErrors], limit: int) -> list[ImageErrors]:
    """Up to `limit` images with errors, most errors first; ties keep their order."""
    return sorted((each for each in of_images if each.errors), key=lambda each: -each.errors)[:limit]


def _by_image(images: int, image_index: np.ndarray, chosen: np.ndarray, *columns: np.ndarray) -> list[Boxes]:
    """The `chosen` rows (bool) of boxes, labels and scores, split by image. image_index: image of each row."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(image_index[rows], kind="stable")]
    ends = np.cumsum(np.bincount(image_index[rows], minlength=images))[:-1]
    return [Boxes(*part) for part in zip(*(np.split(column[rows], ends) for column in columns), strict=True)]
