"""Non-maximum suppression within each class (paper, section 4.1, inference)."""

import torch
from torch import Tensor
from torchvision.ops import nms

from retinanet.devices import highest_precision_dtype

FEW = 1000  # boxes of all classes whose pairs a CPU compares about as fast as it calls `nms` for each class
PAIRS_PER_CALL = 25_000  # pairs of boxes that a CPU compares in the time of a call of `nms`


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Non-maximum suppression of each class on its own, whatever the number of candidates and their coordinates.

    Of two boxes of a class with IoU > `iou`, the one with the higher score remains; of equal scores, the first.

    Args:
        boxes: (N, 4) float32 xyxy pixels. scores: (N,). labels: (N,) int64. iou: 0..1.
    Returns: (S,) int64 rows that remain, highest score first; rows of equal scores in their order.
    """
    if highest_precision_dtype(boxes.device) != torch.float64:
        return suppress(boxes.cpu(), scores.cpu(), labels.cpu(), iou).to(boxes.device)
    if not len(boxes):
        return labels
    boxes, scores = boxes.double(), scores.double()
    low, high = boxes.aminmax()
    # each class is moved to a place of its own, in double precision, since float32 would round the coordinates there
    apart = boxes + (labels * (high - low + 1))[:, None]
    if boxes.device.type == "cpu" and len(boxes) > FEW:
        counts = labels.bincount()
        if len(boxes) ** 2 > PAIRS_PER_CALL * int(counts.count_nonzero()):
            return _class_by_class(apart, scores, labels, counts.tolist(), iou)
    return nms(apart, scores, iou)


def _class_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, counts: list[int], iou: float) -> Tensor:
    """The same rows as `nms` of all boxes, which are apart, with a call for each class. counts: boxes of each class."""
    rows = labels.argsort(stable=True)
    parts = zip(rows.split(counts), boxes[rows].split(counts), scores[rows].split(counts), strict=True)
    kept = torch.cat([part[nms(box, score, iou)] if len(part) > 1 else part for part, box, score in parts])
    kept = kept.sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]
