"""The candidates of the baselines of table 2, with boxes whose matches can be counted by hand."""

import numpy as np
import pytest
from helpers.gpu import DEVICES
from torch import Tensor, nn

from retinacli.render.candidates import print_candidates
from retinanet.config.schema import AnchorConfig, Config, DataConfig, ModelConfig
from retinanet.data.dataset import Sample
from retinanet.data.loader import Batch, collate
from retinanet.paper.baselines import BaselineNetwork, make_faster_rcnn, make_ssd
from retinanet.paper.candidates import CandidateCounts, Candidates, labels_of_candidates

MODEL = ModelConfig(backbone="resnet18", pretrained=False, fpn_channels=16)
CONFIG = Config(DataConfig(short_side=64), MODEL, AnchorConfig(scales=(1,), ratios=(1,)))


def batch(*boxes: tuple[float, float, float, float]) -> Batch:
    """One image of 64 x 64 pixels with these objects, all but the first one crowds."""
    crowd = np.arange(len(boxes)) > 0
    labels, ids = np.ones(len(boxes), np.int64), np.arange(len(boxes))
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((64, 64, 3), np.uint8)
    return collate([(Sample(image, corners, labels, crowd, ids, 0, (64, 64), "0.png"), [])])


def counts(labels: Tensor) -> tuple[int, int, int]:
    """Numbers of foreground, ignored and background candidates."""
    return tuple(int(kind.sum()) for kind in (labels > 0, labels < 0, labels == 0))


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ssd(device: str) -> BaselineNetwork:
    return make_ssd(CONFIG, 2, pretrained=False).eval().to(device)


@pytest.fixture(scope="module")
def faster_rcnn(device: str) -> BaselineNetwork:
    """Its first stage proposes all its anchors, and its second stage draws 40 RoIs."""
    network = make_faster_rcnn(CONFIG, 2, pretrained=False).eval().to(device)
    rpn = network.detector.rpn
    for layer in (rpn.head.cls_logits, rpn.head.bbox_pred):
        nn.init.zeros_(layer.weight)
    rpn.nms_thresh = 1.0
    network.detector.roi_heads.fg_bg_sampler.batch_size_per_image = 40
    return network


def test_faster_rcnn(faster_rcnn: BaselineNetwork):
    # 64 x 64 pixels at stride 4 to 64: 256 + 64 + 16 + 4 + 1 cells, each with one anchor. The object equals the anchor
    # of 32 x 32 pixels in a cell of P2. Its neighbours, by their distance in cells, and their IoU:
    # (0, 1): 4 of 0.78; (1, 1): 4 of 0.62; (0, 2): 4 of 0.6; (1, 2): 8 of 0.49; (0, 3): 4 of 0.45; (2, 2): 4 of 0.39;
    # (1, 3): 8 of 0.38; (0, 4): 4 of 0.33; (2, 3): 8 of 0.31. Anchors of 64 x 64 pixels and more have 0.25, and up to
    # 0.44 after their proposals are clipped.
    found = labels_of_candidates(faster_rcnn, batch((16, 16, 48, 48), (0, 0, 64, 64)))
    assert counts(found["anchors"]) == (5, 44, 292)  # foreground from 0.7, ignored from 0.3
    assert counts(found["sampled anchors"]) == (5, 0, 251)  # of 256, at most half are foreground
    assert counts(found["proposals"]) == (13, 0, 328)  # foreground from 0.5
    assert counts(found["sampled RoIs"]) == (10, 0, 30)  # a quarter of them is foreground
    assert not faster_rcnn.detector.rpn.training


def test_few_proposals_of_an_object_leave_most_of_the_sample_to_background(faster_rcnn: BaselineNetwork):
    found = labels_of_candidates(faster_rcnn, batch((0, 0, 3, 3)))
    assert counts(found["proposals"]) == (0, 0, 341)
    assert counts(found["sampled RoIs"]) == (1, 0, 39)  # the object itself


def test_ssd(ssd: BaselineNetwork):
    # 8 x 8 cells with 4 default boxes, 16, 4 and 1 with 6, 1 and 1 with 4. The object equals a square one in the first
    # map, of 0.07 x 64 pixels; two of the same area and of aspect ratios 2 and 1/2 have IoU 0.55 with it
    middle, half = 4.5 * 8, 0.07 * 64 / 2
    square = (middle - half, middle - half, middle + half, middle + half)
    found = labels_of_candidates(ssd, batch(square))
    assert counts(found["default boxes"]) == (3, 0, 387)
    assert counts(found["mined boxes"]) == (3, 0, 9)


def test_an_image_without_objects_has_only_background(faster_rcnn: BaselineNetwork, ssd: BaselineNetwork):
    found = labels_of_candidates(faster_rcnn, batch()) | labels_of_candidates(ssd, batch())
    assert {kind: counts(labels) for kind, labels in found.items()} == {
        "anchors": (0, 0, 341),
        "sampled anchors": (0, 0, 256),
        "proposals": (0, 0, 341),
        "sampled RoIs": (0, 0, 40),
        "default boxes": (0, 0, 390),
        "mined boxes": (0, 0, 0),
    }


def test_the_table_has_the_papers_numbers_and_names_a_part_of_the_images(capsys):
    kinds = [
        Candidates("retinanet", "anchors", 9000, 10, 8950),
        Candidates("faster-rcnn", "proposals", 950.4, 0, 950.4),
        Candidates("faster-rcnn", "sampled RoIs", 512, 100, 412),
    ]
    print_candidates(CandidateCounts(kinds, 200, 5000))
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "Imbalance: candidates of an image, mean of 200 validation images of 5,000, evenly spaced"
    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in lines if line.startswith("\u2502")]
    assert rows == [
        ["retinanet", "anchors", "9,000", "10.0", "8,950.0", "895.0", "about 100,000", "\u2013"],
        ["faster-rcnn", "proposals", "950", "0.0", "950.4", "\u2013", "1,000 to 2,000", "\u2013"],
        ["", "sampled RoIs", "512", "100.0", "412.0", "4.1", "\u2013", "3"],
    ]
