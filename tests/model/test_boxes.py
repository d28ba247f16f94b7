"""Offsets and boxes: each other's inverse, and equal to torchvision's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area, box_iou

from retinanet.model.boxes import area, clip, decode, encode, intersection

center = st.floats(-2000, 2000)
side = st.floats(1, 1000)


def boxes(seed: int, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 500 * torch.rand(count, 2, generator=generator, dtype=dtype)
    return torch.cat([corner, corner + 1 + 300 * torch.rand(count, 2, generator=generator, dtype=dtype)], dim=1)


@given(center, center, side, side, center, center, st.floats(0.05, 60), st.floats(0.05, 60))
def test_decode_undoes_encode(x, y, w, h, gt_x, gt_y, wider, higher):
    anchor = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dtype=torch.float64)
    half_w, half_h = w * wider / 2, h * higher / 2
    gt = torch.tensor([gt_x - half_w, gt_y - half_h, gt_x + half_w, gt_y + half_h], dtype=torch.float64)
    torch.testing.assert_close(decode(encode(gt, anchor), anchor), gt, rtol=1e-9, atol=1e-6)


def test_encode_by_hand():
    # centres (5, 10) and (15, 20): one anchor width, half an anchor height; twice as wide, as high
    offsets = encode(torch.tensor([[5.0, 10, 25, 30]]), torch.tensor([[0.0, 0, 10, 20]]))
    torch.testing.assert_close(offsets, torch.tensor([[1, 0.5, math.log(2), 0]]))


def test_decode_by_hand():
    # centre (20, 30) of a 20 x 40 anchor moves by (10, -40); twice as wide, half as high
    deltas = torch.tensor([[0.5, -1, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(decode(deltas, torch.tensor([[10.0, 10, 30, 50]])), torch.tensor([[10.0, -20, 50, 0]]))


@pytest.mark.parametrize(("log_scale", "width"), [(10.0, 1000.0), (math.log(50), 800.0), (-10.0, 16 * math.exp(-10))])
def test_no_box_grows_beyond_62_5_times_its_anchor(log_scale, width):
    box = decode(torch.tensor([0, 0, log_scale, 0]), torch.tensor([0.0, 0, 16, 16]))
    torch.testing.assert_close(box, torch.tensor([8 - width / 2, 0, 8 + width / 2, 16]), rtol=1e-5, atol=1e-5)


def test_clip_holds_x_to_the_width_and_y_to_the_height():
    given_boxes = torch.tensor([[-5.0, -5, 700, 300], [10, 20, 30, 40], [650, 210, 660, 220]])
    expected = torch.tensor([[0.0, 0, 640, 200], [10, 20, 30, 40], [640, 200, 640, 200]])
    torch.testing.assert_close(clip(given_boxes, (200, 640)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_offsets_equal_torchvisions(dtype):
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    anchors, gt_boxes = boxes(0, 500, dtype), boxes(1, 500, dtype)
    torch.testing.assert_close(encode(gt_boxes, anchors), coder.encode_single(gt_boxes, anchors))
    deltas = 3 * torch.randn(500, 4, generator=torch.Generator().manual_seed(2), dtype=dtype)  # some beyond the clamp
    torch.testing.assert_close(decode(deltas, anchors), coder.decode_single(deltas, anchors), rtol=1e-5, atol=1e-3)


def test_areas_and_shares_equal_torchvisions():
    some, others = boxes(3, 40), boxes(4, 30)
    torch.testing.assert_close(area(some), box_area(some))
    shared = intersection(some, others)
    torch.testing.assert_close(shared / (area(some)[:, None] + area(others) - shared), box_iou(some, others))
    assert intersection(some, others[:0]).shape == (40, 0)
