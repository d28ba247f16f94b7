"""The nine anchors of a cell, where they stand, and detectron2's own."""

import numpy as np
import pytest
import torch

from retinanet.model.anchors import PAPER_SHAPES, STRIDES, AnchorShapes, cell_anchors, make_anchors


def width_height(anchors):
    return anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]


def test_a_cell_by_hand():
    # area 16: 4 x 4; with height twice the width, 2 sqrt 2 x 4 sqrt 2; area 64 twice as large
    root = 2**0.5
    half_sides = [[2, 2], [root, 2 * root], [4, 4], [2 * root, 4 * root]]
    expected = [[-w, -h, w, h] for w, h in half_sides]
    [anchors] = cell_anchors(AnchorShapes(sizes=(4,), scales=(1, 2), ratios=(1, 2)))
    torch.testing.assert_close(anchors, torch.tensor(expected))


@pytest.mark.parametrize(("level", "size"), list(enumerate((32, 64, 128, 256, 512))))
def test_nine_anchors_scale_major(level, size):
    anchors = cell_anchors(PAPER_SHAPES)[level]
    assert anchors.shape == (9, 4)
    width, height = width_height(anchors)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1, 2] * 3))
    octaves = torch.tensor([1, 2 ** (1 / 3), 2 ** (2 / 3)]).repeat_interleave(3)
    torch.testing.assert_close((width * height).sqrt(), size * octaves)
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:], rtol=0, atol=0)  # centred on the origin


def test_the_paper_covers_32_to_813_pixels():
    levels = make_anchors([(1, 1)] * 5)
    width, height = width_height(torch.cat(levels))
    side = (width * height).sqrt()
    assert float(side.min()) == pytest.approx(32, abs=1e-3)
    assert float(side.max()) == pytest.approx(812.7, abs=0.1)  # 512 * 2 ** (2 / 3)
    assert float(height.max()) == pytest.approx(1149.4, abs=0.1)  # times the root of 2, at ratio 2


def test_centres_are_multiples_of_the_stride_row_by_row():
    feature_sizes = [(3, 4), (2, 3), (2, 2), (1, 2), (1, 1)]
    for anchors, (rows, columns), stride in zip(make_anchors(feature_sizes), feature_sizes, STRIDES, strict=True):
        assert anchors.shape == (rows * columns * 9, 4) and anchors.dtype == torch.float32
        centers = ((anchors[:, :2] + anchors[:, 2:]) / 2).reshape(rows, columns, 9, 2)
        for row, column in np.ndindex(rows, columns):
            expected = torch.tensor([column * stride, row * stride], dtype=torch.float32).expand(9, 2)
            torch.testing.assert_close(centers[row, column], expected, rtol=0, atol=1e-3)


def test_levels_and_sizes_must_be_as_many():
    with pytest.raises(ValueError):
        make_anchors([(4, 4)] * 4)


def test_anchors_equal_detectron2s(shared_golden):
    golden = np.load(shared_golden / "detectron2_r50.npz")
    height, width = golden["image_bgr"].shape[:2]
    feature_sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    for level, anchors in enumerate(make_anchors(feature_sizes), 3):
        np.testing.assert_allclose(anchors[::101].numpy(), golden[f"anchors_p{level}"], rtol=0, atol=1e-3)
