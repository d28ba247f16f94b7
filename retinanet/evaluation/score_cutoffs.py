"""The cuts between the scores of a class: how many right detections each accepts, and which is best."""

from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.detections import ABOVE_ALL_SCORES
from retinanet.evaluation.coco_metrics import UNCOUNTED, coco_eval, ignored, images_of, matches


@dataclass(frozen=True)
class Ranking:
    """Detections of one class, D, best first, at C different scores.

    Cut c, 0..C, accepts the first ends[c] detections; scores[c] is the highest score that it leaves out.

    image_index: (D,) index of their images. right: (D,) bool. ends: (C + 1,) from 0 to D. scores: (C + 1,) float32, falling,
    the last the threshold that the detections were found with. objects: (M,) index of each object's image.
    """

    image_index: np.ndarray
    right: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    objects: np.ndarray

    def threshold(self, cut: int) -> float:
        return between(self.scores[cut], self.scores[cut - 1]) if cut else ABOVE_ALL_SCORES


def make_rankings(dataset: Dataset, results: np.ndarray, lowest: float) -> list[Ranking]:
    """One for each class of `dataset`. results: (D, 7); those that do not score above `lowest` are left out."""
    found = matches(coco_eval(dataset, results), len(results))
    scores = results[:, 5].astype(np.float32)
    counted = (found != UNCOUNTED) & (scores > np.float32(lowest))
    images, right = images_of(dataset, results), found >= 0
    objects = ~ignored(dataset.areas, dataset.crowd)
    image_index, labels = dataset.image_index[objects], dataset.labels[objects]
    rankings = []
    for label, category_id in enumerate(dataset.category_ids):
        rows = np.flatnonzero(counted & (results[:, 6] == category_id))
        rows = rows[np.argsort(-scores[rows])]
        steps = np.append(scores[rows], np.float32(lowest))  # (D + 1,)
        ends = np.flatnonzero(np.diff(steps, prepend=np.inf))  # (C + 1,)
        rankings.append(Ranking(images[rows], right[rows], ends, steps[ends], image_index[labels == label]))
    return rankings


def cumulative_counts(ranking: Ranking, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each cut of each resample, how many detections above it are right, how many there are; and objects.

    counts: (S, N) int32, how often each resample has each image. Returns: (S, C + 1), (S, C + 1), (S,).
    """
    found = np.zeros((len(counts), len(ranking.image_index) + 1), np.int32)
    found[:, 1:] = counts.take(ranking.image_index, axis=1)
    right = np.zeros_like(found)
    np.multiply(found[:, 1:], ranking.right, out=right[:, 1:])
    for array in (found, right):
        array.cumsum(axis=1, dtype=np.int32, out=array)
    objects = counts.take(ranking.objects, axis=1).sum(axis=1)
    return right.take(ranking.ends, axis=1), found.take(ranking.ends, axis=1), objects


def best_cuts(right: np.ndarray, found: np.ndarray, objects: np.ndarray, precision: float | None) -> np.ndarray:
    """(S,) which of the cuts 0..C: 0 where none is of use. Arguments: as `cumulative_counts` returns them."""
    if precision is None:
        worth = 2 * right / np.maximum(found + objects[:, None], 1)  # equal fractions are equal floats
    else:
        worth = np.where(right / np.maximum(found, 1) >= precision, right, 0)
    return worth.argmax(axis=1)


def between(low: np.float32, high: np.float32) -> float:
    """The number of fewest digits near the middle of `low` and a higher score, so that > in float32 accepts only the latter."""
    middle = (float(low) + float(high)) / 2
    rounded = (round(middle, digits) for digits in range(1, 12))
    return next((number for number in rounded if low < np.float32(number) < high), float(low))
