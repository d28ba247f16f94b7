"""Assignment of objects to anchors (paper, section 4)."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from retinanet.model.boxes import area, intersection

BACKGROUND = -1
IGNORE = -2
CROWD_SHARE = 0.5  # an anchor with at least this share of its area inside a crowd box is ignored
CHUNK = 1 << 21  # anchor-object pairs in a chunk on a GPU: 8 MiB for each temporary
CPU_CHUNK = 1 << 18  # pairs in a chunk on a CPU; no slower than 2^16 and 2^20

Matching = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]  # anchors of each level, boxes, crowd -> as `match`


def match(
    anchors: Tensor,
    gt_boxes: Tensor,
    crowd: Tensor,
    foreground_iou: float = 0.5,
    background_iou: float = 0.4,
    force_best: bool = False,
) -> Tensor:
    """Assign to each anchor the object that it overlaps most, BACKGROUND or IGNORE (paper, section 4).

    An anchor gets the index of the object if their IoU is at least `foreground_iou`; it is BACKGROUND below
    `background_iou`, and IGNORE in between. Of equal IoUs the object with the lowest index wins. No anchor is matched
    to a crowd box, but one that is not foreground and has at least half of its own area inside a crowd box is IGNORE.

    Args:
        anchors: (R, 4) xyxy pixels, area > 0. gt_boxes: (M, 4) xyxy pixels. crowd: (M,) bool.
        foreground_iou, background_iou: thresholds, 0..1.
        force_best: make the best anchors of each object foreground, whatever their IoU (Faster R-CNN). As in detectron2
            and torchvision, such an anchor gets the object that it overlaps most, which may be another one.
    Returns: (R,) int64: 0..M-1, BACKGROUND or IGNORE.
    """
    best_iou = anchors.new_zeros(len(anchors))
    best = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    in_crowd = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    highest = anchors.new_zeros(len(gt_boxes))
    areas, any_crowd = area(anchors), _may_have_crowd(crowd)
    for part, near, shared in _intersections(anchors, gt_boxes):
        iou = _iou(shared, areas[part], gt_boxes[near])
        if any_crowd:
            is_crowd = crowd[near, None]
            in_crowd[part] = _in_crowd(shared, areas[part], is_crowd)
            iou.masked_fill_(is_crowd, -1)
        value, index = iou.max(dim=0)
        best_iou[part] = torch.where(value > 0, value, 0)
        best[part] = near[index]
        if force_best:
            highest[near] = torch.maximum(highest[near], iou.amax(dim=1))
    foreground = (best_iou >= foreground_iou) & (best_iou > 0)
    if force_best:
        for part, near, shared in _intersections(anchors, gt_boxes):
            iou = _iou(shared, areas[part], gt_boxes[near])
            foreground[part] |= ((iou == highest[near, None]) & (highest[near, None] > 0)).any(dim=0)
    background = (best_iou < background_iou) & ~in_crowd
    return torch.where(foreground, best, torch.where(background, BACKGROUND, IGNORE))


def inside_crowds(anchors: Tensor, gt_boxes: Tensor, crowd: Tensor) -> Tensor:
    """Whether each anchor has at least half of its own area inside a crowd box: (R,) bool. Arguments: see `match`."""
    in_crowd = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    if _may_have_crowd(crowd):
        areas = area(anchors)
        for part, near, shared in _intersections(anchors, gt_boxes):
            in_crowd[part] = _in_crowd(shared, areas[part], crowd[near, None])
    return in_crowd


def require_labels(labels: Tensor, classes: int, lowest: int = IGNORE) -> None:
    """Check that labels are `lowest`..`classes` - 1. Waits for a GPU. Raises: ValueError that names a wrong label."""
    if not labels.numel():
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < lowest or high >= classes:
        others = f", {BACKGROUND} (background) or {IGNORE} (ignored)" if lowest == IGNORE else ""
        raise ValueError(f"a label is {low if low < lowest else high}, expected 0 to {classes - 1}{others}")


def _intersections(anchors: Tensor, gt_boxes: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunks of n anchors, ascending indices (m,) of the objects near them, and their intersections (m, n).

    Anchors of a chunk are neighbours in the image, so most objects are far from all of them.
    """
    on_cpu = anchors.device.type == "cpu"
    step = max(1, (CPU_CHUNK if on_cpu else CHUNK) // max(1, len(gt_boxes)))
    near = torch.arange(len(gt_boxes), device=gt_boxes.device)  # all: a selection would wait for the GPU
    for start in range(0, len(anchors), step):
        part = slice(start, start + step)
        if on_cpu:
            near = _objects_near(anchors[part], gt_boxes)
        if len(near):
            yield part, near, intersection(gt_boxes[near], anchors[part])


def _may_have_crowd(crowd: Tensor) -> bool:
    """Whether any object may be a crowd; always True on a GPU, since reading the value would wait for it."""
    return crowd.device.type != "cpu" or bool(crowd.any())


def _in_crowd(shared: Tensor, areas: Tensor, is_crowd: Tensor) -> Tensor:
    """`inside_crowds` of the anchors of a chunk, (n,). shared: (m, n), of `_intersections`. is_crowd: (m, 1)."""
    return ((shared >= CROWD_SHARE * areas) & is_crowd).any(dim=0)


def _objects_near(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    """Ascending indices (m,) of the objects that touch the box around all `anchors`."""
    left, top, right, bottom = gt_boxes.unbind(dim=1)
    x1, y1, x2, y2 = anchors.unbind(dim=1)
    touched = (left < x2.max()) & (right > x1.min()) & (top < y2.max()) & (bottom > y1.min())
    return touched.nonzero().squeeze(1)


def _iou(shared: Tensor, areas: Tensor, gt_boxes: Tensor) -> Tensor:
    """IoUs (m, n) from the intersections (m, n), the areas of the anchors (n,) and the objects' boxes (m, 4)."""
    return shared / (areas + area(gt_boxes)[:, None]).sub_(shared)
