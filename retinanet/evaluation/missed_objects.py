"""Why objects were missed: the detection stage that removed the last fitting box of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask
from torch import Tensor

from retinanet.config.schema import AnchorConfig
from retinanet.data.dataset import Dataset, Sample
from retinanet.detections import Detections
from retinanet.evaluation.coco_metrics import DETECTIONS, IOU, ignored, score
from retinanet.losses.atss import has_selected_anchor
from retinanet.model.boxes import clip, decode
from retinanet.model.postprocess import Stages, to_original
from retinanet.model.retinanet import Predictions

# the first that applies. A box or an anchor fits an object if their IoU is at least 0.5 after clipping to the image;
# of a detector that is trained with ATSS, an anchor fits if ATSS selects it for the object
STAGES = {
    "no anchor": "no anchor fits the object, and no predicted box does",
    "box too loose": "an anchor fits the object, but no predicted box does",
    "wrong class": "a box fits, but only other classes score above the threshold",
    "low score": "a box fits, but no class scores above the threshold",
    "top-k": "a box fits and scores above the threshold, but is not among the top k of its level",
    "NMS": "non-maximum suppression kept a higher-scoring box of the class instead",
    "max detections": "too many other detections in the image have higher scores",
    "given to another object": "COCO's greedy matching assigned the detection to another object",
    "unreadable image": "the image could not be read",
}
NO_ANCHOR, TOO_LOOSE, WRONG_CLASS, LOW_SCORE, TOP_K, NMS, MAX_DETECTIONS, OTHER_OBJECT, UNREADABLE = range(len(STAGES))
NOT_MISSED = -1  # detected, or ignored by COCO
SMALL, MEDIUM = 32**2, 96**2  # square pixels: upper limits of COCO's small and medium objects
WORST = 10  # images
CHUNK = 1 << 21  # IoUs computed at once: 16 MiB of float64


@dataclass(frozen=True)
class StageCount:
    """Number of objects missed at one stage, also by COCO's sizes.

    AP50: if each of these objects were detected with the best score of its class in a fitting box, or 1 without one.
    """

    stage: str
    missed: int
    small: int
    medium: int
    large: int
    AP50: float


@dataclass(frozen=True)
class WorstImage:
    """An image, the number of its objects without ignored ones, and how many of them were missed."""

    image_id: int
    file: str
    objects: int
    missed: int


@dataclass(frozen=True)
class MissedObjects:
    """The missed objects of a data set.

    objects: number of all objects without ignored ones. by_stage: one for each of STAGES, in order.
    worst: up to 10 images with the most missed objects. stages: (M,) index into STAGES of each object, or NOT_MISSED.
    """

    objects: int
    by_stage: list[StageCount]
    worst: list[WorstImage]
    stages: np.ndarray

    @property
    def missed(self) -> int:
        return sum(count.missed for count in self.by_stage)


class MissedObjectsObserver:
    """Finds the stage at which each object of `dataset` was lost: `observe` every batch, then read the `summary`.

    anchors: those of the detector, and how training matches them.
    """

    def __init__(self, dataset: Dataset, score_threshold: float, anchors: AnchorConfig):
        self.dataset, self.score_threshold, self.anchors = dataset, score_threshold, anchors
        self.counted = ~ignored(dataset.areas, dataset.crowd)
        self.index_of_id = dataset.index_of_id
        self.stages = np.full(len(dataset.boxes), NOT_MISSED, np.int8)
        self.scores = np.ones(len(dataset.boxes))

    @torch.no_grad()
    def observe(
        self,
        samples: Sequence[Sample],
        predictions: Predictions,
        sizes: Sequence[tuple[int, int]],
        stages: Sequence[Stages],
    ) -> None:
        """Record the missed objects of a batch. sizes: (height, width) of each resized image without padding."""
        for i, (size, sample, passed) in enumerate(zip(sizes, samples, stages, strict=True)):
            index = self.index_of_id[sample.image_id]
            objects = np.arange(self.dataset.first_object[index], self.dataset.first_object[index + 1])
            if sample.original_size == (0, 0):
                self.stages[objects[self.counted[objects]]] = UNREADABLE
            elif len(missed := self._missed(objects, passed.detections)):
                self._explain(missed, predictions, i, size, sample.original_size, passed)

    def merge(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take over what observers in several processes have recorded, each of other images.

        parts: `stages` and `scores` of each.
        """
        for stages, scores in parts:
            recorded = stages != NOT_MISSED
            self.stages[recorded], self.scores[recorded] = stages[recorded], scores[recorded]

    def summary(self, results: np.ndarray) -> MissedObjects:
        """All missed objects. results: (D, 7), all detections."""
        data = self.dataset
        image_index = data.image_index
        by_stage = []
        for number, stage in enumerate(STAGES):
            rows = np.flatnonzero(self.stages == number)
            added = np.column_stack([image_index[rows], data.boxes[rows], self.scores[rows], data.labels[rows]])
            areas = data.areas[rows]
            small, large = int((areas < SMALL).sum()), int((areas > MEDIUM).sum())
            ap50 = score(data, np.concatenate([results, added])).metrics["AP50"]
            by_stage.append(StageCount(stage, len(rows), small, len(rows) - small - large, large, ap50))
        missed = np.bincount(image_index[self.stages != NOT_MISSED], minlength=len(data))
        objects = np.bincount(image_index[self.counted], minlength=len(data))
        worst = [
            WorstImage(int(data.image_ids[i]), data.files[i], int(objects[i]), int(missed[i]))
            for i in np.argsort(-missed, kind="stable")[:WORST].tolist()
            if missed[i]
        ]
        return MissedObjects(int(self.counted.sum()), by_stage, worst, self.stages)

    def _missed(self, objects: np.ndarray, detections: Detections) -> np.ndarray:
        """The `objects` of an image that are neither ignored by COCO nor matched."""
        data, unmatched = self.dataset, self.counted[objects]
        for label in np.unique(data.labels[objects]):
            positions = np.flatnonzero(data.labels[objects] == label)
            of_class = objects[positions]
            boxes = _xywh(detections.boxes[detections.labels == label])
            matched = match_detections(boxes, data.boxes[of_class], data.areas[of_class], data.crowd[of_class])
            unmatched[positions[matched[matched >= 0]]] = False
        return objects[unmatched]

    def _explain(
        self,
        missed: np.ndarray,
        predictions: Predictions,
        i: int,
        size: tuple[int, int],
        original: tuple[int, int],
        passed: Stages,
    ) -> None:
        """Record the stages at which the objects `missed` of image `i` of a batch were lost."""
        logits = [level[i] for level in predictions.logits]
        anchors, deltas = torch.cat(predictions.anchors), torch.cat([level[i] for level in predictions.deltas])
        decoded = to_original(clip(decode(deltas.float(), anchors), size), size, original)
        boxes = _xywh(clip(decoded, original).cpu().numpy())  # (R, 4)
        starts = np.cumsum([0, *map(len, logits[:-1])])  # index of each level's first anchor in all R
        rows = torch.cat([r + start for r, start in zip(passed.rows, starts.tolist(), strict=True)]).cpu().numpy()
        labels, last_stages = passed.labels.cpu().numpy(), candidate_stages(passed)
        step = max(1, CHUNK // max(1, len(boxes)))
        for start in range(0, len(missed), step):
            part = missed[start : start + step]
            fits = _iou(boxes, self.dataset.boxes[part]) >= IOU  # (R, m)
            anchor_fits = self._anchor_fits(part, predictions.anchors, size, original)  # (m,)
            for column, row in enumerate(part):
                label = self.dataset.labels[row]
                fitting = np.flatnonzero(fits[:, column])
                if not len(fitting):
                    self.stages[row] = TOO_LOOSE if anchor_fits[column] else NO_ANCHOR
                    continue
                scores = _scores(logits, starts, fitting)  # (n, K)
                above = scores > self.score_threshold
                self.scores[row] = scores[:, label].max()
                reached = last_stages[(labels == label) & fits[rows, column]]
                if len(reached):
                    self.stages[row] = reached.max()
                elif above[:, label].any():
                    self.stages[row] = TOP_K
                else:
                    self.stages[row] = WRONG_CLASS if above.any() else LOW_SCORE

    def _anchor_fits(
        self, objects: np.ndarray, levels: Sequence[Tensor], size: tuple[int, int], original: tuple[int, int]
    ) -> np.ndarray:
        """Whether an anchor fits each of the `objects` (m,) of an image: (m,) bool."""
        if self.anchors.matching == "iou":
            anchor_boxes = _xywh(to_original(torch.cat(list(levels)), size, original).cpu().numpy())  # (R, 4)
            return _iou(anchor_boxes, self.dataset.boxes[objects]).max(axis=0, initial=0) >= IOU
        x, y, w, h = torch.from_numpy(self.dataset.boxes[objects]).unbind(dim=1)
        scale = torch.tensor([size[1] / original[1], size[0] / original[0]] * 2)
        boxes = (clip(torch.stack([x, y, x + w, y + h], dim=1), original) * scale).float().to(levels[0].device)
        per_cell = len(self.anchors.scales) * len(self.anchors.ratios)
        return has_selected_anchor(levels, boxes, per_cell).cpu().numpy()


def candidate_stages(passed: Stages) -> np.ndarray:
    """(C,) stage that removed each candidate of an image, NMS or MAX_DETECTIONS; OTHER_OBJECT if none did."""
    labels, survivors = passed.labels.cpu().numpy(), passed.survivors.cpu().numpy()
    stages = np.full(len(labels), NMS)
    stages[survivors] = MAX_DETECTIONS
    kept = survivors[: len(passed.detections)]
    for label in np.unique(labels[kept]):
        stages[kept[labels[kept] == label][:DETECTIONS]] = OTHER_OBJECT
    return stages


def match_detections(boxes: np.ndarray, gt_boxes: np.ndarray, areas: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """COCO's matching of the detections of one image and class at IoU 0.5.

    In order of their scores, each detection is matched to the unmatched object that it overlaps most, the last of equal
    ones; only if there is none, to an ignored object. A crowd can be matched to any number of detections.

    boxes: (D, 4) float64 xywh, highest score first. gt_boxes: (M, 4) float64 xywh. areas: (M,). crowd: (M,) bool.
    Returns: (D,) int64, an index 0..M-1, or -1 for no object.
    """
    counted = ~ignored(areas, crowd)
    unmatched = np.ones(len(gt_boxes), bool)
    matched = np.full(len(boxes), -1)
    for row, iou in enumerate(_iou(boxes[:DETECTIONS], gt_boxes, crowd)):
        possible = unmatched & (iou >= IOU)
        for preferred in (possible & counted, possible & ~counted):
            if preferred.any():
                best = len(iou) - 1 - int(np.where(preferred, iou, 0)[::-1].argmax())
                matched[row], unmatched[best] = best, crowd[best]
                break
    return matched


def _xywh(boxes: np.ndarray) -> np.ndarray:
    """float32 xyxy -> float64 xywh, rounded as in the results."""
    wide = boxes.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def _iou(boxes: np.ndarray, gt_boxes: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """COCO's IoU (N, M) of `boxes` (N, 4) and `gt_boxes` (M, 4) xywh; for a crowd, intersection over box area."""
    is_crowd = np.zeros(len(gt_boxes), bool) if crowd is None else crowd
    return np.reshape(mask.iou(boxes, gt_boxes, is_crowd.astype(np.uint8)), (len(boxes), len(gt_boxes)))


def _scores(logits: Sequence[Tensor], starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, K) scores of the anchors `rows` (n,), ascending. starts: index of each level's first anchor in all R."""
    parts = np.split(rows, np.searchsorted(rows, starts[1:]))
    of_level = (level[torch.from_numpy(r - start)] for level, r, start in zip(logits, parts, starts, strict=True))
    return torch.sigmoid(torch.cat(list(of_level)).float()).cpu().numpy()
