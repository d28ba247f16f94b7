"""The possible score cutoffs of a class, their true positives, and the best one."""

from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.detections import ABOVE_ALL_SCORES
from retinanet.evaluation.coco_metrics import NOT_COUNTED, coco_eval, ignored, images_of, labels_of, matched_objects


@dataclass(frozen=True)
class Ranking:
    """D detections of one class, highest score first, with C different scores.

    Cutoff c in 0..C accepts the first ends[c] detections; scores[c] is the highest score that it rejects.

    image_index: (D,) image of each detection. correct: (D,) bool, the true positives. ends: (C + 1,) from 0 to D.
    scores: (C + 1,) float32, descending to the detector's score threshold. objects: (M,) image of each object.
    """

    image_index: np.ndarray
    correct: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    objects: np.ndarray

    def threshold(self, cutoff: int) -> float:
        """A score that exactly the detections accepted by `cutoff` exceed."""
        return shortest_number_between(self.scores[cutoff], self.scores[cutoff - 1]) if cutoff else ABOVE_ALL_SCORES


def make_rankings(dataset: Dataset, results: np.ndarray, lowest: float) -> list[Ranking]:
    """The ranking of each class. results: (D, 7); only scores above `lowest` are used."""
    matched = matched_objects(coco_eval(dataset, results), len(results))
    scores = results[:, 5].astype(np.float32)
    counted = (matched != NOT_COUNTED) & (scores > np.float32(lowest))
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((-scores[rows], results[rows, 6]))]
    objects = np.flatnonzero(~ignored(dataset.areas, dataset.crowd))
    objects = objects[np.argsort(dataset.labels[objects], kind="stable")]
    of_classes = zip(
        _by_class(rows, labels_of(results[rows]), len(dataset.classes)),
        _by_class(dataset.image_index[objects], dataset.labels[objects], len(dataset.classes)),
        strict=True,
    )
    images, correct, rankings = images_of(results), matched >= 0, []
    for of_class, object_images in of_classes:
        steps = np.append(scores[of_class], np.float32(lowest))  # (D + 1,)
        ends = np.flatnonzero(np.diff(steps, prepend=np.inf))  # (C + 1,)
        rankings.append(Ranking(images[of_class], correct[of_class], ends, steps[ends], object_images))
    return rankings


def _by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """K arrays: the `values` of each class. labels: of `values`, ascending."""
    return np.split(values, np.searchsorted(labels, np.arange(1, classes)))


def cumulative_counts(ranking: Ranking, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives and detections accepted by each cutoff, and objects, in each resample of the images.

    counts: (S, N) int32, how often each of the S resamples contains each image.
    Returns: true positives (S, C + 1), detections (S, C + 1), objects (S,).
    """
    detections = np.zeros((len(counts), len(ranking.image_index) + 1), np.int32)
    detections[:, 1:] = counts.take(ranking.image_index, axis=1)
    correct = np.zeros_like(detections)
    np.multiply(detections[:, 1:], ranking.correct, out=correct[:, 1:])
    for array in (detections, correct):
        array.cumsum(axis=1, dtype=np.int32, out=array)
    objects = counts.take(ranking.objects, axis=1).sum(axis=1)
    return correct.take(ranking.ends, axis=1), detections.take(ranking.ends, axis=1), objects


def best_cutoffs(
    correct: np.ndarray, detections: np.ndarray, objects: np.ndarray, precision: float | None
) -> np.ndarray:
    """(S,) cutoff 0..C with the best F1, or with the highest recall among those that reach `precision`.

    The cutoff is 0, which accepts nothing, if there is none. Arguments: see `cumulative_counts`.
    """
    if precision is None:
        value = 2 * correct / np.maximum(detections + objects[:, None], 1)  # equal fractions give equal floats
    else:
        value = np.where(correct / np.maximum(detections, 1) >= precision, correct, 0)
    return value.argmax(axis=1)


def shortest_number_between(low: np.float32, high: np.float32) -> float:
    """A number t with low <= t < high in float32, near their middle, with as few digits as possible."""
    middle = (float(low) + float(high)) / 2
    rounded = (round(middle, digits) for digits in range(1, 12))
    return next((number for number in rounded if low < np.float32(number) < high), float(low))
