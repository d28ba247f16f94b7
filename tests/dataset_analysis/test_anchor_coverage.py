"""Best anchors: numbers worked by hand, brute force over all anchors, the data set's objects as training sees them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops import box_iou

from retinanet.config.schema import AnchorConfig
from retinanet.data.dataset import Dataset, Strings
from retinanet.data.loader import collate
from retinanet.data.shapes import open_shapes
from retinanet.data.transforms import Resizing
from retinanet.data.views import EvalSamples
from retinanet.dataset_analysis.anchor_coverage import (
    anchor_sides,
    best_anchors,
    coverage,
    level_cells,
    resized_objects,
)
from retinanet.errors import DataError
from retinanet.model.anchors import PAPER_SHAPES, STRIDES, AnchorShapes, make_anchors
from retinanet.model.retinanet import FPN

CONFIG = AnchorConfig(scales=(1,), ratios=(1,))
SQUARES = AnchorShapes.from_config(CONFIG)


def one_image(size: tuple[int, int], boxes: list[list[float]], crowd: list[bool] | None = None) -> Dataset:
    """A data set of one image of `size` (height, width) with `boxes` (M, 4) xywh of one class."""
    count = len(boxes)
    columns = np.array(boxes, np.float64).reshape(-1, 4)
    return Dataset(
        classes=("thing",),
        category_ids=(1,),
        folder=Path("nowhere"),
        files=Strings(["a.png"]),
        image_ids=np.array([1]),
        sizes=np.array([size], np.int32),
        sizes_annotated=True,
        first_object=np.array([0, count]),
        boxes=columns,
        areas=columns[:, 2] * columns[:, 3],
        labels=np.zeros(count, np.int32),
        crowd=np.array(crowd or [False] * count, bool),
        annotation_ids=np.arange(1, count + 1),
    )


def random_boxes(rng: np.random.Generator, height: int, width: int, count: int, on_grid: bool) -> np.ndarray:
    centers = rng.uniform(0, 1, (count, 2)) * (width, height)
    sides = np.exp(rng.uniform(np.log(2), np.log(max(height, width)), (count, 2)))
    if on_grid:  # ties between cells, and edges on the image's own
        centers, sides = np.rint(centers / 4) * 4, np.rint(sides / 2) * 2 + 2
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32).astype(np.float64)


def every_anchor(height: int, width: int) -> list[torch.Tensor]:
    padded = -(-height // 32) * 32, -(-width // 32) * 32
    return make_anchors([(-(-padded[0] // s), -(-padded[1] // s)) for s in STRIDES])


@pytest.mark.parametrize(
    ("box", "iou", "level"),
    [
        ([48, 48, 80, 80], 1, 0),  # an anchor of P3 itself, at the cell (64, 64)
        ([52, 52, 76, 76], 24**2 / 32**2, 0),  # inside it
        ([52, 48, 84, 80], 28 / 36, 0),  # centre 68, 4 px from the cells 64 and 72: 28 of 32 columns shared
        ([32, 32, 96, 96], 1, 1),
        ([0, 0, 128, 128], 1, 2),
    ],
)
def test_by_hand(box, iou, level):
    found = best_anchors(np.array([box], float), np.array([[128, 128]]), SQUARES)
    assert found[0].tolist() == pytest.approx([iou], abs=1e-12) and found[1].tolist() == [level]


def test_the_last_cell_stands_before_the_image_s_end():
    # 100 px are padded to 128: P3's last centre is 120, P7's only one 0
    boxes = np.array([[84.0, 84, 116, 116]])
    iou, _ = best_anchors(boxes, np.array([[100, 100]]), SQUARES)
    assert iou[0] == pytest.approx(28**2 / (2 * 32**2 - 28**2))  # from the cell 96 or 104, 4 px off in each axis
    # a box of 512 px around (0, 0), cut at the image's edges, is all that P7 can offer
    iou, level = best_anchors(
        np.array([[0.0, 0, 256, 256]]), np.array([[256, 256]]), AnchorShapes((8, 8, 8, 8, 512), (1,), (1,))
    )
    assert level[0] == 4 and iou[0] == pytest.approx(256**2 / 512**2)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_brute_force(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 500, 2).tolist()
    boxes = random_boxes(rng, height, width, 60, on_grid=seed % 2 == 1)
    levels = [box_iou(torch.tensor(boxes), a.double()).amax(dim=1) for a in every_anchor(height, width)]
    iou, level = best_anchors(boxes, np.tile([height, width], (60, 1)), PAPER_SHAPES)
    np.testing.assert_allclose(iou, torch.stack(levels).amax(dim=0).numpy(), rtol=0, atol=1e-6)
    chosen = torch.stack(levels).numpy()[level, np.arange(60)]
    np.testing.assert_allclose(iou, chosen, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_brute_force_over_torchvisions_anchors(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 500, 2).tolist()
    boxes = random_boxes(rng, height, width, 60, on_grid=seed % 2 == 1)
    padded = (-(-height // 32) * 32, -(-width // 32) * 32)
    feature_maps = [torch.zeros(1, 1, -(-padded[0] // stride), -(-padded[1] // stride)) for stride in STRIDES]
    generator = _default_anchorgen()
    (anchors,) = generator(ImageList(torch.zeros(1, 3, *padded), [(height, width)]), feature_maps)
    iou, _ = best_anchors(boxes, np.tile([height, width], (60, 1)), AnchorShapes(whole_pixels=True))
    expected = box_iou(torch.tensor(boxes), anchors.double()).amax(dim=1)
    np.testing.assert_allclose(iou, expected.numpy(), rtol=0, atol=1e-6)


def test_exact_without_the_rounding_of_float32():
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 800, 1333, 20, on_grid=True)
    sizes = np.tile([800, 1333], (20, 1))
    rounded = torch.cat(every_anchor(800, 1333)).double()
    torch.set_default_dtype(torch.float64)  # make_anchors then works in it
    try:
        exact = torch.cat(every_anchor(800, 1333))
        iou, _ = best_anchors(boxes, sizes, PAPER_SHAPES)
    finally:
        torch.set_default_dtype(torch.float32)
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(iou, box_iou(torch.tensor(boxes), exact).amax(dim=1).numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(iou, box_iou(torch.tensor(boxes), rounded).amax(dim=1).numpy(), rtol=0, atol=4e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 33), (65, 128), (100, 257), (416, 555)])
def test_cells_are_those_of_the_pyramid(height, width):
    padded = [-(-side // 32) * 32 for side in (height, width)]
    features = [torch.zeros(1, 8, padded[0] // s, padded[1] // s) for s in (8, 16, 32)]
    pyramid = FPN((8, 8, 8), 8)(features)
    expected = [tuple(p.shape[-2:]) for p in pyramid]
    assert [tuple(level_cells(np.array([height, width]), s).tolist()) for s in STRIDES] == expected


def test_chunks_change_nothing(monkeypatch):
    boxes = random_boxes(np.random.default_rng(0), 300, 400, 50, on_grid=False)
    sizes = np.tile([300, 400], (50, 1))
    whole = best_anchors(boxes, sizes, PAPER_SHAPES)
    monkeypatch.setattr("retinanet.dataset_analysis.anchor_coverage.OBJECTS_PER_CHUNK", 7)
    for a, b in zip(best_anchors(boxes, sizes, PAPER_SHAPES), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shapes_are_the_anchors_widths_and_heights():
    shapes = anchor_sides(AnchorShapes((4, 8, 16, 32, 64), (1, 2), (1, 4)))
    np.testing.assert_allclose(shapes[0], [[4, 4], [2, 8], [8, 8], [4, 16]])
    np.testing.assert_allclose(shapes[4], 16 * shapes[0])


def test_objects_are_those_of_the_loader():
    dataset = open_shapes("val")
    dataset = dataclasses.replace(dataset, boxes=dataset.boxes + (-3.3, 5.7, 0, 0))  # some beyond the image's edges
    objects = resized_objects(dataset, [Resizing(100, 150), Resizing(144, 150)])
    view = EvalSamples(dataset, Resizing(144, 150))
    batches = [collate([view[index]]) for index in range(20)]
    half, count = len(objects.boxes) // 2, int(dataset.first_object[20])
    loaded = torch.cat([batch.boxes[0] for batch in batches]).double().numpy()
    np.testing.assert_array_equal(objects.boxes[half : half + count], loaded)
    owners = dataset.image_index[objects.indices[half : half + count]]
    sizes = torch.cat([batch.sizes for batch in batches]).numpy()
    np.testing.assert_array_equal(objects.image_sizes[half : half + count], sizes[owners])
    np.testing.assert_array_equal(objects.indices[:half], objects.indices[half:])


def test_rows_by_hand():
    boxes = [[48, 48, 32, 32], [52, 48, 32, 32], [64, 64, 10, 10], [50, 50, 21, 21], [0, 0, 128, 128], [0, 0, 90, 90]]
    dataset = one_image((128, 128), boxes, crowd=[False] * 5 + [True])
    found = coverage(dataset, resized_objects(dataset, [Resizing(128, 128)]), CONFIG)
    # IoU 1; 28 / 36; at most 10^2 / 32^2; (21 px inside 32) 441 / 1024 = 0.43; 1 at P5; crowds are left out
    assert (found.all.objects, found.all.covered, found.all.ignored, found.all.missed) == (5, 3, 1, 1)
    assert found.share == 0.6
    assert found.all.mean_iou == pytest.approx((1 + 28 / 36 + 100 / 1024 + 441 / 1024 + 1) / 5)
    assert [share.objects for share in found.per_level] == [4, 0, 1, 0, 0]
    assert [(share.name, share.objects) for share in found.per_size] == [("small", 2), ("medium", 2), ("large", 1)]
    assert found.per_level[1].mean_iou is None
    assert [(item.annotation_id, item.file, item.label) for item in found.worst[:2]] == [
        (3, "a.png", "thing"),
        (4, "a.png", "thing"),
    ]
    assert (found.worst[0].width, found.worst[0].height) == (10, 10)


def test_sizes_are_of_the_original_pixels_and_shapes_of_the_resized_ones():
    dataset = one_image((64, 64), [[0, 0, 31, 31]])  # small as COCO counts, 124 px after the resize
    found = coverage(dataset, resized_objects(dataset, [Resizing(256, 256)]), AnchorConfig())
    assert [share.objects for share in found.per_size] == [1, 0, 0]
    assert found.worst[0].width == pytest.approx(124)


def test_each_short_side_counts_and_the_worst_names_an_object_once():
    dataset = one_image((64, 64), [[16, 16, 32, 32]])
    found = coverage(dataset, resized_objects(dataset, [Resizing(64, 256), Resizing(16, 256)]), CONFIG)
    assert (found.all.objects, found.all.covered, found.all.missed) == (2, 1, 1)
    assert len(found.worst) == 1 and found.worst[0].width == 8


def test_groups_add_up_to_all():
    dataset = open_shapes("val")
    found = coverage(dataset, resized_objects(dataset, [Resizing(128, 128)]), AnchorConfig())
    for group in (found.per_level, found.per_size, found.per_class):
        for field in ("objects", "covered", "ignored", "missed"):
            assert sum(getattr(share, field) for share in group) == getattr(found.all, field)
    assert len(found.worst) == 10
    assert [item.iou for item in found.worst] == sorted(item.iou for item in found.worst)


def test_without_objects():
    with pytest.raises(DataError, match="none of its 1 images has an object"):
        resized_objects(one_image((64, 64), [[0, 0, 9, 9]], crowd=[True]), [Resizing(64, 64)])
