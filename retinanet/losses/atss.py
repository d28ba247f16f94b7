"""ATSS, adaptive training sample selection: an IoU threshold for each object (Zhang et al. 2020)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from retinanet.devices import highest_precision_dtype
from retinanet.losses.matching import BACKGROUND, CHUNK, CPU_CHUNK, IGNORE, inside_crowds
from retinanet.model.boxes import centers, iou_of_pairs

NEAREST = 9  # cells of each level whose anchors are the candidates of an object: the paper's k
MARGIN = 0.01  # pixels from a positive anchor's centre to each edge of its object, as in the authors' code
LOWEST_BITS = (1 << 31) - 1  # of an order from `_order`

# m objects; of their n candidates, (m, n) each: row of the anchor, IoU, whether it is selected
Selection = tuple[slice, Tensor, Tensor, Tensor]


def match_atss(
    levels: Sequence[Tensor], gt_boxes: Tensor, crowd: Tensor, per_cell: int = 1, nearest: int = NEAREST
) -> Tensor:
    """Assign to each anchor the object that it is selected for, BACKGROUND or IGNORE (Zhang et al. 2020, algorithm 1).

    The candidates of an object are the anchors of the `nearest` cells to its centre on each level; of equally near
    cells, the first. Selected are those whose centre lies inside the object and whose IoU with it is at least the mean
    plus the standard deviation over its candidates. An anchor that is selected for several objects gets the one with
    the highest IoU, of equal ones the first. No anchor is matched to a crowd box, but one that is not selected and has
    at least half of its own area inside a crowd box is IGNORE.

    Args:
        levels: anchors (R_l, 4) of each level, xyxy pixels, area > 0; those of a cell are neighbours.
        gt_boxes: (M, 4) xyxy pixels. crowd: (M,) bool. per_cell: number of anchors of a cell.
    Returns: (R,) int64 for the anchors of all levels: 0..M-1, BACKGROUND or IGNORE.
    Raises: ValueError for a level with a part of a cell.
    """
    anchors = torch.cat(list(levels))
    best = torch.full((len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
    for objects, rows, iou, selected in _selections(levels, gt_boxes, per_cell, nearest):
        index = torch.arange(objects.start, objects.stop, device=anchors.device)[:, None]
        order = _order(iou, LOWEST_BITS - index)
        order = torch.where(selected & ~crowd[objects, None], order, BACKGROUND)
        best.scatter_reduce_(0, rows.flatten(), order.flatten(), "amax")
    matched = torch.where(best < 0, BACKGROUND, LOWEST_BITS - (best & LOWEST_BITS))
    return torch.where((best < 0) & inside_crowds(anchors, gt_boxes, crowd), IGNORE, matched)


def has_selected_anchor(
    levels: Sequence[Tensor], gt_boxes: Tensor, per_cell: int = 1, nearest: int = NEAREST
) -> Tensor:
    """Whether an anchor is selected for each object, though another one may get it: (M,) bool.

    Arguments and errors are those of `match_atss`.
    """
    found = torch.zeros(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
    for objects, _, _, selected in _selections(levels, gt_boxes, per_cell, nearest):
        found[objects] = selected.any(dim=1)
    return found


def _selections(levels: Sequence[Tensor], gt_boxes: Tensor, per_cell: int, nearest: int) -> Iterator[Selection]:
    """The candidates of chunks of objects, and which of them are selected."""
    if faulty := next((len(level) for level in levels if len(level) % per_cell), None):
        raise ValueError(f"a level has {faulty} anchors, expected a multiple of per_cell, {per_cell}")
    anchors, first = torch.cat(list(levels)), 0
    exact = highest_precision_dtype(anchors.device)
    cells = []  # row of the first anchor of each level, and the centres of its cells
    for level in levels:
        cells.append((first, centers(level[::per_cell])))
        first += len(level)
    widest = max(per_cell * nearest * len(levels), *(len(points) for _, points in cells))
    step = max(1, (CPU_CHUNK if anchors.device.type == "cpu" else CHUNK) // widest)
    for start in range(0, len(gt_boxes), step):
        objects = slice(start, min(start + step, len(gt_boxes)))
        boxes = gt_boxes[objects]
        near = [first + per_cell * _nearest(points, centers(boxes), nearest) for first, points in cells]
        rows = torch.cat(near, dim=1)[:, :, None] + torch.arange(per_cell, device=boxes.device)
        rows = rows.flatten(1)  # (m, n)
        chosen, boxes = anchors[rows].to(exact), boxes[:, None].to(exact)  # (m, n, 4), (m, 1, 4)
        iou = iou_of_pairs(chosen, boxes)
        mean = iou.mean(dim=1, keepdim=True)
        deviation = iou.std(dim=1, keepdim=True, correction=min(1, iou.shape[1] - 1))  # of a sample, as in their code
        middle = centers(chosen)
        inside = torch.minimum(middle - boxes[..., :2], boxes[..., 2:] - middle).amin(dim=-1) > MARGIN
        yield objects, rows, iou, inside & (iou >= mean + deviation)


def _nearest(points: Tensor, middles: Tensor, count: int) -> Tensor:
    """Indices of the `count` points (C, 2) that are nearest to each of `middles` (m, 2), nearest first: (m, n)."""
    x, y = points.unbind(dim=1)
    left, top = middles[:, :, None].unbind(dim=1)  # (m, 1)
    distance = (x - left).square_() + (y - top).square_()  # (m, C), squared
    order = _order(distance, torch.arange(len(points), device=points.device))
    return order.topk(min(count, len(points)), largest=False).values & LOWEST_BITS


def _order(values: Tensor, tie: Tensor) -> Tensor:
    """int64 numbers in the order of `values`, >= 0, in float32, and of `tie`, 0..2^31-1, where these are equal.

    So the highest and the lowest are the same on every device. The bits of floats >= 0 are in the floats' order.
    """
    return (values.float().view(torch.int32).long() << 31) | tie
