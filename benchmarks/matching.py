"""Matching of 200,000 anchors with 500 objects, compared with torchvision's box_iou and Matcher.

Usage: python benchmarks/matching.py
"""

from collections.abc import Callable
from functools import partial

import torch
from paired import compare, peak_memory
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from retinanet.losses.matching import match
from retinanet.model.anchors import make_anchors

HEIGHT, WIDTH, ANCHORS, OBJECTS = 800, 1344, 200_000, 500


def inputs(scattered: bool = False) -> tuple[Tensor, Tensor]:
    """The anchors of a detector, in random order if `scattered`, which is the worst case; and boxes of all sizes."""
    generator = torch.Generator().manual_seed(0)
    limit = torch.tensor([WIDTH, HEIGHT])
    centers = limit * torch.rand(OBJECTS, 2, generator=generator)
    half = 5 + 150 * torch.rand(OBJECTS, 2, generator=generator) ** 2
    gt_boxes = torch.cat([centers - half, centers + half], dim=1)
    shapes = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in (8, 16, 32, 64, 128)]
    anchors = torch.cat(make_anchors(shapes))[:ANCHORS]
    if scattered:
        anchors = anchors[torch.randperm(len(anchors), generator=generator)]
    return anchors, gt_boxes


def ours(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    return match(anchors, gt_boxes, torch.zeros(len(gt_boxes), dtype=torch.bool))


def theirs(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    return Matcher(0.5, 0.4, allow_low_quality_matches=False)(box_iou(gt_boxes, anchors))


def prepared(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
    anchors, gt_boxes = inputs()
    function(anchors[:100], gt_boxes)
    return partial(function, anchors, gt_boxes)


def main() -> None:
    for name, scattered in (("anchors as in a detector", False), ("anchors in random order", True)):
        anchors, gt_boxes = inputs(scattered)
        assert torch.equal(ours(anchors, gt_boxes), theirs(anchors, gt_boxes))
        compare(f"{len(anchors)} {name}", partial(ours, anchors, gt_boxes), partial(theirs, anchors, gt_boxes))
    for function in (ours, theirs):
        print(f"peak extra memory, {function.__name__}: {peak_memory(partial(prepared, function)):.0f} MB")


if __name__ == "__main__":
    main()
