"""Why objects were missed: the first stage of detection at which nothing was left that would have found them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask
from torch import Tensor

from retinanet.data.dataset import Dataset, Sample
from retinanet.detections import Detections
from retinanet.evaluation.coco_metrics import DETECTIONS, IOU, ignored
from retinanet.losses.matching import CHUNK
from retinanet.model.boxes import clip, decode
from retinanet.model.postprocess import Stages, to_original
from retinanet.model.retinanet import Predictions

# where an object may be lost, the first of them that holds; a box fits that, cut to the image, has IoU 0.5 with the object
STAGES = {
    "no anchor": "no anchor fits it, and none was moved onto it",
    "box too loose": "an anchor fits, but no box that was made of one",
    "wrong class": "a box fits, but scores as another class only",
    "low score": "a box fits, but no class scores there",
    "top-k": "a box scores, but is not among the best of its level",
    "NMS": "suppressed by a better box of its class",
    "max detections": "too many others of the image score higher",
    "given to another object": "COCO's greedy matching gave it to another object",
    "unreadable image": "the image could not be read",
}
NO_ANCHOR, TOO_LOOSE, WRONG_CLASS, LOW_SCORE, TOP_K, NMS, MAX_DETECTIONS, GIVEN, UNREADABLE = range(len(STAGES))
FOUND = -1  # or not counted, as crowds
SMALL, MEDIUM = 32**2, 96**2  # square pixels; COCO's small objects lie below the first, its large ones above the second
WORST = 10


@dataclass(frozen=True)
class LostAt:
    """Objects missed at one stage, in all and by COCO's sizes.

    AP50: what it would be if each of them had a correct detection, with the highest score of its class in a near box,
        or 1 where there is none.
    """

    stage: str
    missed: int
    small: int
    medium: int
    large: int
    AP50: float


@dataclass(frozen=True)
class WorstImage:
    """An image, its objects that count, and how many of these were missed."""

    image_id: int
    file: str
    objects: int
    missed: int


@dataclass(frozen=True)
class Funnel:
    """objects: how many count, missed ones among them. lost: one for each of STAGES, in order.

    worst: up to 10 images with the most missed objects, most first. stages: (M,) index into STAGES for each object of
    the data set, or FOUND.
    """

    objects: int
    lost: list[LostAt]
    worst: list[WorstImage]
    stages: np.ndarray

    @property
    def missed(self) -> int:
        return sum(at.missed for at in self.lost)


class MissedObjects:
    """Looks on while images are evaluated and notes where each object of `dataset` that is missed was lost."""

    def __init__(self, dataset: Dataset, score_threshold: float):
        self.dataset, self.score_threshold = dataset, score_threshold
        self.counted = ~ignored(dataset.areas, dataset.crowd)
        self.index = {image_id: index for index, image_id in enumerate(dataset.image_ids.tolist())}
        self.stages = np.full(len(dataset.boxes), FOUND, np.int8)
        self.scores = np.ones(len(dataset.boxes))

    @torch.no_grad()
    def look(
        self,
        samples: Sequence[Sample],
        predictions: Predictions,
        sizes: Sequence[tuple[int, int]],
        stages: Sequence[Stages],
    ) -> None:
        """Note what is missed in a batch. sizes: (height, width) of each resized image without padding."""
        for i, (size, sample, found) in enumerate(zip(sizes, samples, stages, strict=True)):
            index = self.index[sample.image_id]
            objects = np.arange(self.dataset.first_object[index], self.dataset.first_object[index + 1])
            if sample.original_size == (0, 0):
                self.stages[objects[self.counted[objects]]] = UNREADABLE
            elif len(missed := self._missed(objects, found.detections)):
                self._explain(missed, predictions, i, size, sample.original_size, found)

    def funnel(self, results: np.ndarray, ap50: Callable[[np.ndarray], float]) -> Funnel:
        """What became of all. results: (D, 7), the detections as they were scored. ap50: scores such."""
        data = self.dataset
        owners = data.image_index
        lost = []
        for number, stage in enumerate(STAGES):
            rows = np.flatnonzero(self.stages == number)
            ids = np.asarray(data.category_ids)[data.labels[rows]]
            given = np.column_stack([data.image_ids[owners[rows]], data.boxes[rows], self.scores[rows], ids])
            areas = data.areas[rows]
            small, large = int((areas < SMALL).sum()), int((areas > MEDIUM).sum())
            value = ap50(np.concatenate([results, given]))
            lost.append(LostAt(stage, len(rows), small, len(rows) - small - large, large, value))
        missed = np.bincount(owners[self.stages != FOUND], minlength=len(data))
        objects = np.bincount(owners[self.counted], minlength=len(data))
        worst = [
            WorstImage(int(data.image_ids[i]), data.files[i], int(objects[i]), int(missed[i]))
            for i in np.argsort(-missed, kind="stable")[:WORST].tolist()
            if missed[i]
        ]
        return Funnel(int(self.counted.sum()), lost, worst, self.stages)

    def _missed(self, objects: np.ndarray, detections: Detections) -> np.ndarray:
        """Those of an image's `objects` that count and are matched to nothing."""
        data, free = self.dataset, self.counted[objects]
        for label in np.unique(data.labels[objects]):
            places = np.flatnonzero(data.labels[objects] == label)
            mine = objects[places]
            boxes = _xywh(detections.boxes[detections.labels == label])
            given = match_detections(boxes, data.boxes[mine], data.areas[mine], data.crowd[mine])
            free[places[given[given >= 0]]] = False
        return objects[free]

    def _explain(
        self,
        missed: np.ndarray,
        predictions: Predictions,
        i: int,
        size: tuple[int, int],
        original: tuple[int, int],
        found: Stages,
    ) -> None:
        """Where the objects `missed` of image `i` of a batch were lost."""
        logits = [level[i] for level in predictions.logits]
        anchors, deltas = torch.cat(predictions.anchors), torch.cat([level[i] for level in predictions.deltas])
        boxes = to_original(clip(decode(deltas.float(), anchors), size), size, original)
        moved = _xywh(clip(boxes, original).cpu().numpy())  # (R, 4)
        shapes = _xywh(to_original(anchors, size, original).cpu().numpy())  # (R, 4)
        starts = np.cumsum([0, *map(len, logits[:-1])])  # of each level in all R
        rows = torch.cat([r + start for r, start in zip(found.rows, starts.tolist(), strict=True)]).cpu().numpy()
        labels, ends = found.labels.cpu().numpy(), candidate_ends(found)
        step = max(1, CHUNK // max(1, len(moved)))
        for start in range(0, len(missed), step):
            part = missed[start : start + step]
            near = _iou(moved, self.dataset.boxes[part]) >= IOU  # (R, m)
            covered = _iou(shapes, self.dataset.boxes[part]).max(axis=0, initial=0) >= IOU  # (m,)
            for column, row in enumerate(part):
                label = self.dataset.labels[row]
                around = np.flatnonzero(near[:, column])
                if not len(around):
                    self.stages[row] = TOO_LOOSE if covered[column] else NO_ANCHOR
                    continue
                scores = _scores(logits, starts, around)  # (n, K)
                above = scores > self.score_threshold
                self.scores[row] = scores[:, label].max()
                reached = ends[(labels == label) & near[rows, column]]
                if len(reached):
                    self.stages[row] = reached.max()
                elif above[:, label].any():
                    self.stages[row] = TOP_K
                else:
                    self.stages[row] = WRONG_CLASS if above.any() else LOW_SCORE


def candidate_ends(found: Stages) -> np.ndarray:
    """Where each candidate (C,) of an image stopped being one: NMS, MAX_DETECTIONS, or GIVEN to an object if it did not."""
    labels, survivors = found.labels.cpu().numpy(), found.survivors.cpu().numpy()
    ends = np.full(len(labels), NMS)
    ends[survivors] = MAX_DETECTIONS
    kept = survivors[: len(found.detections)]
    for label in np.unique(labels[kept]):
        ends[kept[labels[kept] == label][:DETECTIONS]] = GIVEN
    return ends


def match_detections(boxes: np.ndarray, gt_boxes: np.ndarray, areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """The object that each detection of one image and class is matched to at IoU 0.5, as by COCO's metrics.

    Each takes, best first, the free object that it overlaps most, of equal ones the last; only where there is none, a
    crowd, which is never taken, or an object that does not count.

    Args:
        boxes: (D, 4) float64 xywh, best first. gt_boxes: (M, 4) float64 xywh. areas: (M,). crowd: (M,) bool.
    Returns: (D,) int64, an index 0..M-1, or -1 for nothing.
    """
    counted = ~ignored(areas, crowd)
    free = np.ones(len(gt_boxes), bool)
    matched = np.full(len(boxes), -1)
    for row, iou in enumerate(_iou(boxes[:DETECTIONS], gt_boxes, crowd)):
        near = free & (iou >= IOU)
        for able in (near & counted, near & ~counted):
            if able.any():
                best = len(iou) - 1 - int(np.where(able, iou, 0)[::-1].argmax())
                matched[row], free[best] = best, crowd[best]
                break
    return matched


def _xywh(boxes: np.ndarray) -> np.ndarray:
    """float32 xyxy -> float64 xywh, as detections are scored."""
    wide = boxes.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def _iou(boxes: np.ndarray, gt_boxes: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(N, M) of `boxes` (N, 4) and `gt_boxes` (M, 4), xywh, to COCO's last bit; with a crowd, the share of the box."""
    is_crowd = np.zeros(len(gt_boxes), bool) if crowd is None else crowd
    return np.reshape(mask.iou(boxes, gt_boxes, is_crowd.astype(np.uint8)), (len(boxes), len(gt_boxes)))


def _scores(logits: Sequence[Tensor], starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, K) of ascending `rows` (n,) of all levels, of which each begins at one of `starts`."""
    parts = np.split(rows, np.searchsorted(rows, starts[1:]))
    of_level = (level[torch.from_numpy(r - start)] for level, r, start in zip(logits, parts, starts, strict=True))
    return torch.sigmoid(torch.cat(list(of_level)).float()).cpu().numpy()
