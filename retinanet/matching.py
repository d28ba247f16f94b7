"""Which object each anchor is to find (paper, section 4)."""

import torch
from torch import Tensor

from retinanet.boxes import area, intersection

BACKGROUND = -1
IGNORE = -2
CROWD_SHARE = 0.5  # of an anchor's own area inside one crowd box
CHUNK = 1 << 21  # anchor-object pairs held at once: about 150 MB of temporaries


def match(
    anchors: Tensor,
    gt_boxes: Tensor,
    crowd: Tensor,
    foreground_iou: float = 0.5,
    background_iou: float = 0.4,
    force_best: bool = False,
) -> Tensor:
    """Assign to each anchor the object it overlaps most, BACKGROUND or IGNORE.

    IoU >= `foreground_iou`: the object's index; < `background_iou`: BACKGROUND; between: IGNORE. An anchor that is not
    foreground and has at least half of its own area inside one crowd box is IGNORE. Crowd boxes are matched to nothing.
    Of equal IoUs the object of the lowest index wins. No anchor is forced onto an object but by `force_best`: the anchors
    of an object's highest IoU are foreground, each of the object that it overlaps most itself, which may be another
    (Faster R-CNN, as detectron2 and torchvision have it).

    Args:
        anchors: (R, 4) xyxy pixels, area > 0. gt_boxes: (M, 4) xyxy pixels. crowd: (M,) bool.
    Returns: (R,) int64: 0..M-1, BACKGROUND or IGNORE.
    """
    best_iou = anchors.new_zeros(len(anchors))
    best = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    in_crowd = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    anchor_area = area(anchors)
    forced = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    step = max(1, CHUNK // max(1, len(anchors)))
    for start in range(0, len(gt_boxes), step):
        objects = gt_boxes[start : start + step]
        is_crowd = crowd[start : start + step]
        shared = intersection(anchors, objects)  # (R, m)
        in_crowd |= ((shared >= CROWD_SHARE * anchor_area[:, None]) & is_crowd).any(dim=1)
        iou = shared / (anchor_area[:, None] + area(objects) - shared)
        iou = iou.masked_fill(is_crowd, -1)
        value, index = iou.max(dim=1)
        if force_best:
            highest = iou.amax(dim=0)  # (m,)
            forced |= ((iou == highest) & (highest > 0)).any(dim=1)
        better = value > best_iou
        best_iou = torch.where(better, value, best_iou)
        best = torch.where(better, index + start, best)
    matched = torch.where(best_iou < background_iou, BACKGROUND, IGNORE)
    matched = torch.where(in_crowd, IGNORE, matched)
    foreground = ((best_iou >= foreground_iou) & (best_iou > 0)) | forced
    return torch.where(foreground, best, matched)
