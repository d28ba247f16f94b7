"""Matching of anchors to objects: thresholds, ties, crowds and empty images."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from retinanet.losses import matching
from retinanet.losses.matching import BACKGROUND, IGNORE, match


def run(anchors, gt_boxes, crowd=None, **thresholds):
    gt_boxes = torch.tensor(gt_boxes, dtype=torch.float32).reshape(-1, 4)
    crowd = torch.tensor(crowd if crowd is not None else [False] * len(gt_boxes), dtype=torch.bool)
    return match(torch.tensor(anchors, dtype=torch.float32), gt_boxes, crowd, **thresholds).tolist()


def random_boxes(generator: torch.Generator, count: int) -> torch.Tensor:
    corner = 100 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 1 + 60 * torch.rand(count, 2, generator=generator)], dim=1)


def written_out(anchors, gt_boxes, crowd, force_best):
    """`match` from the matrix of all IoUs."""
    iou = box_iou(gt_boxes, anchors).masked_fill(crowd[:, None], -1)  # (M, R)
    value, best = iou.max(dim=0)
    matched = torch.where(value < 0.4, BACKGROUND, torch.where(value < 0.5, IGNORE, best))
    top = (iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)
    corner = torch.maximum(gt_boxes[:, None, :2], anchors[:, :2])
    shared = (torch.minimum(gt_boxes[:, None, 2:], anchors[:, 2:]) - corner).clamp(min=0).prod(dim=2)
    share = shared / (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    matched[(matched < 0) & ((share >= 0.5) & crowd[:, None]).any(dim=0)] = IGNORE
    return torch.where(top.any(dim=0), best, matched) if force_best else matched


ANCHOR = [0, 0, 10, 10]


@pytest.mark.parametrize(
    ("height", "expected"),  # an object of the anchor's width inside it: IoU is height / 10
    [(10, 0), (5.01, 0), (5, 0), (4.99, IGNORE), (4.01, IGNORE), (4, IGNORE), (3.99, BACKGROUND), (0, BACKGROUND)],
)
def test_thresholds(height, expected):
    assert run([ANCHOR], [[0, 0, 10, height]]) == [expected]


def test_thresholds_are_arguments():
    third = [[0, 0, 10, 3]]
    assert run([ANCHOR], third, foreground_iou=0.3, background_iou=0.2) == [0]
    assert run([ANCHOR], third, foreground_iou=0.7, background_iou=0.3) == [IGNORE]
    assert run([ANCHOR], [[20, 20, 30, 30]], foreground_iou=0, background_iou=0) == [IGNORE]  # touching nothing


def test_the_best_object_wins_and_of_equals_the_first():
    assert run([ANCHOR], [[0, 0, 10, 6], [0, 0, 10, 9], [0, 0, 10, 7]]) == [1]
    assert run([ANCHOR], [[0, 0, 10, 6], [0, 4, 10, 10], [0, 0, 6, 10]]) == [0]


def test_no_anchor_is_forced_onto_an_object():
    assert run([[0, 0, 100, 100], [50, 50, 150, 150]], [[0, 0, 10, 10]]) == [BACKGROUND, BACKGROUND]


@pytest.mark.parametrize(("inside", "expected"), [(6, IGNORE), (5, IGNORE), (4.99, BACKGROUND)])
def test_half_an_anchor_inside_a_crowd_is_ignored(inside, expected):
    # IoU with the crowd is below 0.01 in each case
    assert run([ANCHOR], [[10 - inside, 0, 1000, 100]], crowd=[True]) == [expected]


def test_crowds_are_matched_to_nothing_and_their_shares_do_not_add_up():
    assert run([ANCHOR], [ANCHOR], crowd=[True]) == [IGNORE]
    halves = [[-100, 0, 4, 10], [6, 0, 100, 10]]  # 0.4 of the anchor in each
    assert run([ANCHOR], halves, crowd=[True, True]) == [BACKGROUND]


def test_foreground_inside_a_crowd_stays_foreground():
    boxes = [[-50, -50, 50, 50], [0, 0, 10, 5]]
    assert run([ANCHOR, [0, 0, 10, 20]], boxes, crowd=[True, False]) == [1, IGNORE]


def test_without_objects_all_is_background():
    assert run([ANCHOR, [5, 5, 9, 9]], []) == [BACKGROUND, BACKGROUND]


def test_degenerate_boxes_hide_no_object():
    # without area, 0 / 0 would be NaN, which is no IoU
    assert run([[3, 3, 3, 3], ANCHOR], [[3, 3, 3, 3], ANCHOR]) == [BACKGROUND, 1]


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors, gt_boxes = random_boxes(generator, 3000), random_boxes(generator, 25)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=False)(box_iou(gt_boxes, anchors))
    matched = match(anchors, gt_boxes, torch.zeros(25, dtype=torch.bool))
    assert torch.equal(matched, expected)
    assert len(matched.unique()) > 10  # objects, BACKGROUND and IGNORE all occur


@pytest.mark.parametrize("pairs", [1, 700, 1600])  # 1, 8 and 20 anchors at once
def test_chunks_change_nothing(monkeypatch, pairs):
    generator = torch.Generator().manual_seed(0)
    anchors, gt_boxes = random_boxes(generator, 500), random_boxes(generator, 40)
    gt_boxes = torch.cat([gt_boxes, gt_boxes])  # each object twice, for ties over chunks
    crowd = torch.rand(80, generator=generator) < 0.2
    whole = match(anchors, gt_boxes, crowd)
    monkeypatch.setattr(matching, "CPU_CHUNK", pairs)
    assert torch.equal(match(anchors, gt_boxes, crowd), whole)
    for force_best in (False, True):
        whole = written_out(anchors, gt_boxes, crowd, force_best)
        assert torch.equal(match(anchors, gt_boxes, crowd, force_best=force_best), whole)
        # beside each other in the list as in the image, so that most objects are far from a chunk
        order = anchors[:, 0].argsort()
        assert torch.equal(match(anchors[order], gt_boxes, crowd, force_best=force_best), whole[order])


def test_forced_anchors_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [30, 0, 40, 10], [60, 0, 70, 10]])
    objects = torch.tensor([[0.0, 0, 10, 10], [8, 0, 18, 10], [31, 0, 61, 10], [90, 0, 99, 10]])
    no_crowd = torch.zeros(4, dtype=torch.bool)
    # anchor 1 has IoU 6/14 with object 0 and 6/14 with object 1, of which the first wins; anchor 2 is object 2's best
    # with 9/31, anchor 3 is not; nothing touches object 3
    assert match(anchors, objects, no_crowd).tolist() == [0, IGNORE, BACKGROUND, BACKGROUND]
    assert match(anchors, objects, no_crowd, force_best=True).tolist() == [0, 0, 2, BACKGROUND]
    crowd = torch.tensor([False, False, True, False])
    assert match(anchors, objects, crowd, force_best=True).tolist()[2] == IGNORE  # crowds force nothing
