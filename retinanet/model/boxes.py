"""Boxes in xyxy float pixels, and R-CNN's box deltas."""

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # Detectron: a box is at most 62.5 times as wide or high as its anchor


def encode(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets that move `anchors` onto `gt_boxes`: (dx, dy) in anchor sizes, (dw, dh) as log ratios.

    Girshick et al. 2014, appendix C; inverse of `decode`.

    Args:
        gt_boxes, anchors: (..., 4) xyxy pixels, width and height > 0.
    Returns: (..., 4), dimensionless.
    """
    anchor_centers, anchor_sizes = _centers_sizes(anchors)
    gt_centers, gt_sizes = _centers_sizes(gt_boxes)
    return torch.cat([(gt_centers - anchor_centers) / anchor_sizes, torch.log(gt_sizes / anchor_sizes)], dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Apply `deltas` to `anchors`; dw and dh are limited to log(1000/16).

    Girshick et al. 2014, appendix C; inverse of `encode`.

    Args:
        deltas: (..., 4), dimensionless. anchors: (..., 4) xyxy pixels.
    Returns: (..., 4) xyxy pixels.
    """
    anchor_centers, anchor_sizes = _centers_sizes(anchors)
    centers = anchor_centers + deltas[..., :2] * anchor_sizes
    half = 0.5 * anchor_sizes * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SCALE))
    return torch.cat([centers - half, centers + half], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """`boxes` (..., 4) xyxy, clipped to an image of `size` (height, width) pixels."""
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of `boxes` (..., 4) xyxy, in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """Area (N, M) that each of `boxes` (N, 4) shares with each of `others` (M, 4), in square pixels."""
    left, top, right, bottom = boxes.T[:, :, None]  # (N, 1) each
    x1, y1, x2, y2 = others.unbind(dim=1)
    # column by column and in place: only two temporaries of (N, M)
    width = torch.minimum(right, x2).sub_(torch.maximum(left, x1)).clamp_(min=0)  # (N, M)
    height = torch.minimum(bottom, y2).sub_(torch.maximum(top, y1)).clamp_(min=0)
    return width.mul_(height)


def centers(boxes: Tensor) -> Tensor:
    """Centres (..., 2) of `boxes` (..., 4) xyxy, in pixels."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def iou_of_pairs(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (...,) of each of `boxes` (..., 4) with the one of `others` (..., 4) in its place; either has an area > 0."""
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    return shared / (area(boxes) + area(others) - shared)


def _centers_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes
