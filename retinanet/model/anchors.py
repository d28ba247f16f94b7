"""Anchors: nine reference boxes at each cell of P3 to P7 (paper, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retinanet.config.schema import AnchorConfig

STRIDES = (8, 16, 32, 64, 128)  # pixels between cells of P3..P7


@dataclass(frozen=True)
class AnchorShapes:
    """The anchors of one cell of each level; the defaults are the paper's (section 4).

    An anchor of scale s and ratio r has area (size * s)^2 and height / width = r.

    sizes: (L,) pixels, one for each level. scales, ratios: each pair is one of the A anchors of a cell.
    whole_pixels: round as torchvision does: size * s down, corners to the nearest, strides (image side / cells) down.
    """

    sizes: tuple[float, ...] = AnchorConfig.sizes
    scales: tuple[float, ...] = AnchorConfig.scales
    ratios: tuple[float, ...] = AnchorConfig.ratios
    whole_pixels: bool = AnchorConfig.whole_pixels

    @classmethod
    def from_config(cls, anchors: AnchorConfig) -> "AnchorShapes":
        return cls(anchors.sizes, anchors.scales, anchors.ratios, anchors.whole_pixels)

    @property
    def per_cell(self) -> int:
        """Number A of anchors per cell."""
        return len(self.scales) * len(self.ratios)


PAPER_SHAPES = AnchorShapes()


def cell_anchors(shapes: AnchorShapes) -> list[Tensor]:
    """The anchors of one cell of each level, centred on the origin: L tensors (A, 4), xyxy pixels, scale-major."""
    levels = []
    for size in shapes.sizes:
        boxes = []
        for scale in shapes.scales:
            area = int(size * scale) ** 2 if shapes.whole_pixels else size**2 * scale**2
            for ratio in shapes.ratios:
                width = (area / ratio) ** 0.5
                height = width * ratio
                boxes.append([-width / 2, -height / 2, width / 2, height / 2])
        levels.append(torch.tensor(boxes).round() if shapes.whole_pixels else torch.tensor(boxes))
    return levels


def image_anchors(
    size: tuple[int, int], shapes: AnchorShapes = PAPER_SHAPES, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """`make_anchors` of P3..P7 for an image padded to `size` (height, width), multiples of 32."""
    cells = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]  # convolutions round up
    strides: Sequence[int | tuple[int, int]] = STRIDES
    if shapes.whole_pixels:
        strides = [(size[0] // rows, size[1] // columns) for rows, columns in cells]
    return make_anchors(cells, shapes, strides, device)


def make_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    shapes: AnchorShapes = PAPER_SHAPES,
    strides: Sequence[int | tuple[int, int]] = STRIDES,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Anchors of every level (paper, section 4; centres on multiples of the stride, as in detectron2).

    Args:
        feature_sizes: (height, width) in cells of each of the L levels.
        strides: pixels between cells of each level, or (pixels between rows, pixels between columns).
    Returns: L tensors (R_l, 4) xyxy pixels, R_l = height * width * A, ordered by row, column, anchor.
    Raises: ValueError if the arguments have different numbers of levels.
    """
    levels = []
    for (height, width), cell, stride in zip(feature_sizes, cell_anchors(shapes), strides, strict=True):
        cell = cell.to(device, non_blocking=True)  # (A, 4)
        stride_y, stride_x = stride if isinstance(stride, tuple) else (stride, stride)
        y = torch.arange(height, device=device, dtype=torch.float32) * stride_y
        x = torch.arange(width, device=device, dtype=torch.float32) * stride_x
        y, x = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # (H*W, 1, 4)
        levels.append((shifts + cell).reshape(-1, 4))  # (R_l, 4)
    return levels
