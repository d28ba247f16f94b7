"""Anchors: nine reference boxes at each cell of P3 to P7 (paper, section 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)  # pixels between cells of P3..P7


def cell_anchors(size: float, scales: Sequence[float], ratios: Sequence[float], whole_pixels: bool = False) -> Tensor:
    """The A anchors of one cell, centred on the origin: (A, 4) xyxy pixels, scale-major as detectron2 orders them.

    An anchor of scale s and ratio r has area (size * s)^2 and height / width = r. whole_pixels: size * s is cut to a
    whole number and the corners are rounded, as torchvision has it.
    """
    boxes = []
    for scale in scales:
        area = int(size * scale) ** 2 if whole_pixels else size**2 * scale**2
        for ratio in ratios:
            width = (area / ratio) ** 0.5
            height = width * ratio
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes).round() if whole_pixels else torch.tensor(boxes)


def image_anchors(
    size: tuple[int, int],
    sizes: Sequence[float] = (32, 64, 128, 256, 512),
    scales: Sequence[float] = (1, 2 ** (1 / 3), 2 ** (2 / 3)),
    ratios: Sequence[float] = (0.5, 1, 2),
    whole_pixels: bool = False,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Anchors of P3..P7 for an image padded to `size` (height, width), multiples of 32, as `make_anchors` gives them.

    whole_pixels: as torchvision has it; strides are `size` over the numbers of cells, cut, sides as in `cell_anchors`.
    """
    cells = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]  # convolutions round up
    strides: Sequence[int | tuple[int, int]] = STRIDES
    if whole_pixels:
        strides = [(size[0] // rows, size[1] // columns) for rows, columns in cells]
    return make_anchors(cells, sizes, scales, ratios, strides, whole_pixels, device)


def make_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[float] = (32, 64, 128, 256, 512),
    scales: Sequence[float] = (1, 2 ** (1 / 3), 2 ** (2 / 3)),
    ratios: Sequence[float] = (0.5, 1, 2),
    strides: Sequence[int | tuple[int, int]] = STRIDES,
    whole_pixels: bool = False,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Anchors of every level (paper, section 4; centres on multiples of the stride, as in detectron2).

    Args:
        feature_sizes: (height, width) in cells of each of the L levels.
        sizes: side in pixels of each level's square anchor of scale 1. strides: pixels between cells, or
            (between rows, between columns). whole_pixels: as `cell_anchors` takes it.
    Returns: L tensors (R_l, 4) xyxy pixels, R_l = height * width * A, ordered by row, column, anchor.
    Raises: ValueError if the arguments differ in their number of levels.
    """
    levels = []
    for (height, width), size, stride in zip(feature_sizes, sizes, strides, strict=True):
        cell = cell_anchors(size, scales, ratios, whole_pixels).to(device, non_blocking=True)
        stride_y, stride_x = stride if isinstance(stride, tuple) else (stride, stride)
        y = torch.arange(height, device=device, dtype=torch.float32) * stride_y
        x = torch.arange(width, device=device, dtype=torch.float32) * stride_x
        y, x = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # (H*W, 1, 4)
        levels.append((shifts + cell).reshape(-1, 4))  # (R_l, 4)
    return levels
