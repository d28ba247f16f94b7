"""The COCO metrics of resampled images, from one matching of the detections: a resample only counts images anew."""

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_matching import AREAS, IOUS, TRUE_POSITIVE, counted_objects, match_all

RECALLS = np.linspace(0, 1, 101)
EPSILON = np.spacing(1)  # pycocotools adds it to the number of detections
ALL = 0  # of AREAS


class ResampledMetrics:
    """The 12 metrics and the AP of each class, when each image counts as often as a resample draws it.

    The entries, sorted by group (size, IoU, class) and then by falling score, are the matched detections alone. The
    numbers of the other detections between them follow from cumulative sums over all detections of a size. So time and
    memory grow with the detections and not with classes x recalls.
    """

    def __init__(self, dataset: Dataset, results: np.ndarray):
        matching = match_all(dataset, results)
        self.classes, self.images, self.inside = len(dataset.classes), matching.images, matching.inside
        objects, area = counted_objects(dataset).nonzero()
        self.object_images = dataset.image_index[objects]
        self.object_groups = area * self.classes + dataset.labels[objects]
        row, area, iou = matching.status.nonzero()
        places = matching.overlapping[row]
        groups = (area * len(IOUS) + iou) * self.classes + matching.labels[places]
        order = np.lexsort((places, groups))
        row, area, iou, self.places, self.groups = (each[order] for each in (row, area, iou, places, groups))
        self.correct = matching.status[row, area, iou] == TRUE_POSITIVE
        # a match counts by the size of its object, the other detections count by their own
        self.corrections = self.correct.astype(np.int64) - self.inside[area, self.places]
        labels = matching.labels[self.places]
        self.ranks, self.entry_objects = matching.ranks[self.places], area * self.classes + labels
        self.up_to = area * (len(self.images) + 1) + self.places + 1
        self.before = area * (len(self.images) + 1) + np.searchsorted(matching.labels, labels)
        self.first = np.flatnonzero(np.diff(self.groups, prepend=-1))
        self.lengths = np.diff(self.first, append=len(self.groups))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """(12 + K,) the metrics, then AP of each class; NaN without objects. counts: (N,) int64, of each image."""
        shape = (len(AREAS), len(IOUS), self.classes)
        objects = np.bincount(self.object_groups, counts[self.object_images], len(AREAS) * self.classes)
        weights = counts[self.images]
        detections = np.zeros((len(AREAS), len(weights) + 1), np.int64)
        np.cumsum(weights * self.inside, axis=1, out=detections[:, 1:])
        weights = weights[self.places]
        correct = weights * self.correct
        found = self._cumulative(correct)
        accepted = detections.ravel()[self.up_to] - detections.ravel()[self.before]
        accepted += self._cumulative(weights * self.corrections)
        # precision at each recall is the best of all later ones; each group is moved above the next one
        precision, above = found / (accepted + EPSILON), np.prod(shape) - self.groups
        precision = np.maximum.accumulate((precision + above)[::-1])[::-1] - above
        passed = _recalls_passed(found, objects[self.entry_objects].astype(np.int64))
        new = np.diff(passed, prepend=0)
        new[self.first] = passed[self.first]
        ap = np.bincount(self.groups, precision * new, np.prod(shape)).reshape(shape) / len(RECALLS)
        objects = np.where(objects > 0, objects, np.nan).reshape(len(AREAS), 1, self.classes)
        ap[np.broadcast_to(np.isnan(objects), shape)] = np.nan
        recall = [
            np.bincount(self.groups, correct * (self.ranks < limit), np.prod(shape)).reshape(shape) / objects
            for limit in (1, 10, 100)
        ]
        parts = [ap[ALL], ap[ALL, 0], ap[ALL, 5], *ap[1:], *(each[ALL] for each in recall), *recall[-1][1:]]
        return np.concatenate([[_mean(part) for part in parts], ap[ALL].mean(axis=0)])

    def _cumulative(self, values: np.ndarray) -> np.ndarray:
        """The cumulative sums of `values` within each group."""
        sums = np.cumsum(values)
        return sums - np.repeat((sums - values)[self.first], self.lengths)


def _recalls_passed(found: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """How many of RECALLS a recall of `found` / `objects` reaches, as floats compare."""
    objects = np.maximum(objects, 1)
    whole = found * (len(RECALLS) - 1) // objects
    return whole + (RECALLS[whole] <= found / objects)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
