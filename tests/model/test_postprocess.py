"""From raw predictions to boxes: a case by hand, and torchvision's own post-processing."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection._utils import BoxCoder

from retinanet.inference.detector import load
from retinanet.model.anchors import make_anchors
from retinanet.model.postprocess import detect, detect_stages
from retinanet.model.retinanet import Predictions


def predictions(*levels, classes: int = 2) -> Predictions:
    """Of one image: a level is a list of (anchor, probabilities); all deltas are 0."""
    logits, anchors = [], []
    for level in levels:
        p = torch.tensor([scores for _, scores in level], dtype=torch.float64).reshape(1, -1, classes)
        logits.append(torch.log(p / (1 - p)).float())
        anchors.append(torch.tensor([anchor for anchor, _ in level], dtype=torch.float32).reshape(-1, 4))
    return Predictions(logits, [torch.zeros(1, len(a), 4) for a in anchors], anchors)


def found(prediction, size=(100, 100), original=(100, 100), **settings):
    [detections] = detect(prediction, [size], [original], **settings)
    return [
        (label, round(score, 4), box)
        for label, score, box in zip(
            detections.labels.tolist(), detections.scores.tolist(), detections.boxes.tolist(), strict=True
        )
    ]


NONE = 1e-6
FIRST, NEAR, FAR = [0, 0, 20, 20], [0, 0, 20, 16], [50, 50, 90, 90]  # IoU of FIRST and NEAR: 0.8


def test_two_levels_by_hand():
    got = found(predictions([(FIRST, [0.9, 0.3]), (NEAR, [0.8, 0.6])], [(FAR, [NONE, 0.7]), (FIRST, [0.85, NONE])]))
    # class 0: 0.9 suppresses 0.8 on its own and 0.85 on the other level; class 1: NEAR's 0.6 suppresses FIRST's 0.3
    assert got == [(0, 0.9, FIRST), (1, 0.7, FAR), (1, 0.6, NEAR)]


def test_suppression_starts_above_the_threshold():
    level = [(FIRST, [0.9, NONE]), ([0, 0, 20, 10], [0.8, NONE])]  # IoU exactly 0.5
    assert len(found(predictions(level), nms_iou=0.5)) == 2
    assert len(found(predictions(level), nms_iou=0.49)) == 1


def test_a_score_must_exceed_the_threshold():
    half = Predictions([torch.tensor([[[0.0], [0.01]]])], [torch.zeros(1, 2, 4)], [torch.tensor([FIRST, FAR]).float()])
    assert [box for _, _, box in found(half, score_threshold=0.5)] == [FAR]


def test_top_k_holds_for_each_level_and_the_limit_for_the_image():
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(5)]
    level = [(box, [0.9 - 0.1 * i, NONE]) for i, box in enumerate(boxes)]
    lower = [([x, y + 50, z, w + 50], [p - 0.05, NONE]) for (x, y, z, w), (p, _) in level]
    both = predictions(level, lower)
    assert [score for _, score, _ in found(both, top_k=2)] == [0.9, 0.85, 0.8, 0.75]
    assert [score for _, score, _ in found(both, max_detections=3)] == [0.9, 0.85, 0.8]
    # an anchor's two classes are two candidates
    assert [label for label, _, _ in found(predictions([(FIRST, [0.6, 0.7]), (FAR, [0.5, 0.5])]), top_k=2)] == [1, 0]


def test_boxes_are_clipped_and_scaled_to_the_original_image():
    # resized to 50 x 100 (height x width) from 100 x 300: x counts three times, y twice
    level = [([-10, -10, 30, 30], [0.9, NONE]), ([80, 40, 120, 80], [0.8, NONE])]
    got = found(predictions(level), size=(50, 100), original=(100, 300))
    assert got == [(0, 0.9, [0, 0, 90, 60]), (0, 0.8, [240, 80, 300, 100])]


def test_rounding_leads_no_box_out_of_the_image():
    # in single precision, 35 * (36 / 35) is above 36
    everything = predictions([([-50, -50, 200, 200], [0.9, NONE])])
    assert found(everything, size=(35, 35), original=(36, 36)) == [(0, 0.9, [0, 0, 36, 36])]


def test_deltas_move_the_anchors():
    prediction = predictions([(FIRST, [0.9, NONE])])
    prediction.deltas[0][0, 0] = torch.tensor([1, 0.5, math.log(2), math.log(0.5)])
    [(_, _, box)] = found(prediction)
    assert box == pytest.approx([10, 15, 50, 25], abs=1e-4)  # centre (10, 10) -> (30, 20); 40 x 10


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *[(key, value, "0 to 1") for key in ("score_threshold", "nms_iou") for value in (-0.1, 1.1, math.nan)],
        *[("top_k", value, "1 to 1,000,000") for value in (-1, 0)],
        *[("max_detections", value, "1 to 100,000") for value in (-1, 0)],
    ],
)
def test_settings_that_mean_nothing_are_refused(key, value, expected):
    with pytest.raises(ValueError, match=f"^{key} is {value}, expected {expected}$"):
        found(predictions([(FIRST, [0.9, NONE])]), **{key: value})
    if key in ("score_threshold", "max_detections"):
        with pytest.raises(ValueError, match=f"^{key} is {value}, expected {expected}$"):
            load("no checkpoint is opened", **{key: value})


@pytest.mark.parametrize("anchors", [[], [FIRST]])
def test_nothing_found(anchors):
    [empty] = detect(predictions([(anchor, [NONE, NONE]) for anchor in anchors]), [(100, 100)], [(50, 50)])
    assert len(empty) == 0
    assert (empty.boxes.shape, empty.scores.shape, empty.labels.shape) == ((0, 4), (0,), (0,))
    assert (empty.boxes.dtype, empty.scores.dtype, empty.labels.dtype) == (np.float32, np.float32, np.int64)


def test_half_precision_is_decoded_in_single():
    single = predictions([(FIRST, [0.9, NONE]), (FAR, [NONE, 0.7])])
    half = Predictions([x.bfloat16() for x in single.logits], [x.bfloat16() for x in single.deltas], single.anchors)
    assert [(label, box) for label, _, box in found(half)] == [(0, FIRST), (1, FAR)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("threshold", "top_k", "limit"), [(0.05, 1000, 300), (0.3, 50, 20)])
def test_equal_to_torchvision(seed, threshold, top_k, limit):
    generator = torch.Generator().manual_seed(seed)
    anchors = make_anchors([(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)])
    logits = [2 * torch.randn(2, len(a), 4, generator=generator) - 2 for a in anchors]
    deltas = [0.5 * torch.randn(2, len(a), 4, generator=generator) for a in anchors]
    sizes = [(128, 160), (100, 150)]
    got = detect(Predictions(logits, deltas, anchors), sizes, sizes, threshold, top_k, 0.5, limit)
    settings = SimpleNamespace(
        score_thresh=threshold,
        topk_candidates=top_k,
        nms_thresh=0.5,
        detections_per_img=limit,
        box_coder=BoxCoder((1.0, 1.0, 1.0, 1.0)),
    )
    outputs = {"cls_logits": logits, "bbox_regression": deltas}
    expected = TorchvisionRetinaNet.postprocess_detections(settings, outputs, [anchors, anchors], sizes)
    for ours, theirs in zip(got, expected, strict=True):
        assert len(ours) == limit
        boxes, scores, labels = (theirs[name].numpy() for name in ("boxes", "scores", "labels"))
        np.testing.assert_array_equal(ours.scores, scores)
        mine, order = np.lexsort((ours.labels, ours.scores)), np.lexsort((labels, scores))  # equal scores in any order
        np.testing.assert_array_equal(ours.labels[mine], labels[order])
        np.testing.assert_allclose(ours.boxes[mine], boxes[order], rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_a_level_are_those_of_all_its_scores(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = make_anchors([(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)])[0]
    logits = 3 * torch.randn(1, len(anchors), 7, generator=generator) - 2
    of_class = torch.tensor([0.5, 0.1, 0.9, 0.05, 1, 0.3, 0.2])
    for threshold in (0.05, of_class):
        [stages] = detect_stages(
            Predictions([logits], [torch.zeros(1, len(anchors), 4)], [anchors]),
            [(128, 160)],
            [(128, 160)],
            score_threshold=threshold,
            top_k=50,
            nms_iou=1,
            max_detections=50,
        )
        scores = torch.sigmoid(logits[0])
        every = scores[scores > threshold].sort(descending=True).values
        assert torch.equal(stages.scores, every[:50])
        assert torch.equal(scores[stages.rows[0], stages.labels], stages.scores)
