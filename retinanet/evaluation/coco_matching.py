"""COCO's matching of detections to objects, for all its IoU thresholds and sizes of objects at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retinanet.data.dataset import Dataset
from retinanet.evaluation.coco_metrics import DETECTIONS, MAX_AREA, images_of, labels_of

IOUS = np.linspace(0.5, 0.95, 10)  # T
AREAS = np.array([(0, MAX_AREA), (0, 32**2), (32**2, 96**2), (96**2, MAX_AREA)])  # A: all, small, medium, large
UNMATCHED, TRUE_POSITIVE, ON_IGNORED = 0, 1, 2
PAIRS = 2**20  # of a detection and an object, whose IoU is computed at once


@dataclass(frozen=True)
class Matching:
    """The D detections that count, 100 for each image and class, by class, falling score and image id.

    images, labels: (D,). ranks: (D,) 0..99, the place in its image and class. inside: (A, D) bool, of a size in AREAS.
    overlapping: (P,) the detections that overlap an object of their class by at least the lowest of IOUS.
    status: (P, A, T) int8, UNMATCHED, TRUE_POSITIVE or ON_IGNORED; the other detections are unmatched.
    """

    images: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray
    inside: np.ndarray
    overlapping: np.ndarray
    status: np.ndarray


def counted_objects(dataset: Dataset) -> np.ndarray:
    """(M, A) bool: the objects that are not ignored among those of each size."""
    return ~dataset.crowd[:, None] & _inside(dataset.areas)


def match_all(dataset: Dataset, results: np.ndarray) -> Matching:
    """Match `results` (D, 7) with COCO's greedy rule, which `retinanet.evaluation.missed_objects` also describes."""
    groups = labels_of(results) * len(dataset) + images_of(results)  # an image and a class
    order = np.lexsort((-results[:, 5], groups))
    ranks = _places(groups[order])
    order, ranks = order[ranks < DETECTIONS], ranks[ranks < DETECTIONS]
    detections, groups = results[order], groups[order]
    pairs = [np.concatenate(parts) for parts in zip(*_overlaps(dataset, detections, groups), strict=True)]
    overlapping, rows = np.unique(pairs[0], return_inverse=True)
    status = _match(dataset, ranks[overlapping], rows, pairs[1], pairs[2])
    by_id = np.argsort(np.argsort(dataset.image_ids, kind="stable"))  # decides ties, as in `coco_metrics.numbered`
    by_score = np.lexsort((by_id[images_of(detections)], -detections[:, 5], labels_of(detections)))
    place = np.empty_like(by_score)
    place[by_score] = np.arange(len(by_score))
    inside = _inside(detections[:, 3] * detections[:, 4]).T
    return Matching(
        images_of(detections)[by_score],
        labels_of(detections)[by_score],
        ranks[by_score],
        inside[:, by_score],
        place[overlapping],
        status,
    )


def _inside(areas: np.ndarray) -> np.ndarray:
    """(n,) -> (n, A) bool."""
    return (areas[:, None] >= AREAS[:, 0]) & (areas[:, None] <= AREAS[:, 1])


def _places(groups: np.ndarray) -> np.ndarray:
    """0, 1, ... within each run of equal `groups`."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def _overlaps(
    dataset: Dataset, detections: np.ndarray, groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Detections, objects of the same group and IoU of the pairs that can match. groups: of `detections`, ascending."""
    of_objects = dataset.labels.astype(np.int64) * len(dataset) + dataset.image_index
    objects = np.argsort(of_objects, kind="stable")
    first, end = (np.searchsorted(of_objects[objects], groups, side) for side in ("left", "right"))
    totals = np.cumsum(end - first)
    steps = np.unique(np.searchsorted(totals, np.arange(0, (end - first).sum() + 1, PAIRS)))
    for start, stop in zip(steps, [*steps[1:], len(groups)], strict=True):
        counts = (end - first)[start:stop]
        rows = np.repeat(np.arange(start, stop), counts)
        columns = objects[np.repeat(first[start:stop] - np.cumsum(counts) + counts, counts) + np.arange(len(rows))]
        iou = _pair_iou(detections[rows, 1:5], dataset.boxes[columns], dataset.crowd[columns])
        possible = iou >= IOUS[0]
        yield rows[possible], columns[possible], iou[possible]


def _pair_iou(boxes: np.ndarray, gt_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """COCO's IoU of each pair of boxes xywh, in its order of operations; for a crowd, intersection over box area."""
    low = np.maximum(boxes[:, :2], gt_boxes[:, :2])
    sides = np.maximum(np.minimum(boxes[:, 2:] + boxes[:, :2], gt_boxes[:, 2:] + gt_boxes[:, :2]) - low, 0)
    common, area = sides.prod(axis=1), boxes[:, 2:].prod(axis=1)
    union = np.where(crowd, area, area + gt_boxes[:, 2:].prod(axis=1) - common)
    return np.divide(common, union, out=np.zeros(len(common)), where=common > 0)


def _match(dataset: Dataset, ranks: np.ndarray, rows: np.ndarray, objects: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """(P, A, T) status of the P detections. ranks: (P,). rows, objects, iou: of each pair; rows are 0..P-1.

    All detections of the same rank choose at once, since they belong to different images or classes: the unmatched
    object with the highest IoU, the last of equal ones, and an ignored one only if there is no other.
    """
    order = np.lexsort((objects, iou, rows, ranks[rows]))
    rows, objects, iou = rows[order], objects[order], iou[order]
    known, objects = np.unique(objects, return_inverse=True)
    counted, crowd = counted_objects(dataset)[known], dataset.crowd[known]
    status = np.zeros((len(ranks), len(AREAS), len(IOUS)), np.int8)
    taken = np.zeros((len(known), len(AREAS), len(IOUS)), bool)
    ends = np.searchsorted(ranks[rows], np.arange(DETECTIONS + 1))
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if start == end:
            continue
        row, of = rows[start:end], objects[start:end]
        free = ~taken[of] | crowd[of][:, None, None]
        possible = free & (iou[start:end, None, None] >= IOUS)  # (p, A, T)
        preference = np.arange(1, end - start + 1)[:, None] + (end - start) * counted[of]  # (p, A)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        best = np.maximum.reduceat(np.where(possible, preference[:, :, None], 0), first)  # (rows, A, T)
        chosen = best.nonzero()
        best = best[chosen]
        taken[of[(best - 1) % (end - start)], chosen[1], chosen[2]] = True
        status[row[first][chosen[0]], chosen[1], chosen[2]] = np.where(best > end - start, TRUE_POSITIVE, ON_IGNORED)
    return status
