"""The loss of a batch: boxes, normalisers, labels and settings, by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from retinanet.config.schema import AnchorConfig, LossConfig
from retinanet.losses.atss import match_atss
from retinanet.losses.criterion import Criterion, Targets, box_loss, detection_loss, make_criterion
from retinanet.losses.focal import anchor_cross_entropy, anchor_focal_loss, anchor_focal_star_loss
from retinanet.losses.matching import BACKGROUND, IGNORE, match
from retinanet.losses.ohem import hard_examples, hard_examples_1_3
from retinanet.model.anchors import AnchorShapes, image_anchors
from retinanet.model.retinanet import Predictions

ANCHOR = torch.tensor([[0.0, 0, 10, 10]])


@pytest.mark.parametrize(
    ("kind", "beta", "expected"),
    [
        ("l1", 0.11, 0.1 + 0.5),
        ("smooth_l1", 0.11, 0.5 * 0.1**2 / 0.11 + 0.5 - 0.055),  # below beta square, above it straight
        ("smooth_l1", 1.0, 0.5 * 0.1**2 + 0.5 * 0.5**2),
        ("smooth_l1", 0.0, 0.1 + 0.5),
    ],
)
def test_offset_losses_by_hand(kind, beta, expected):
    # the object lies 0.1 anchor widths right of the anchor; predicted are 0 and, down, 0.5
    loss = box_loss(torch.tensor([[0, 0.5, 0, 0]]), ANCHOR, torch.tensor([[1.0, 0, 11, 10]]), kind, beta)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 10, 10], 0),
        ([0, 0, 10, 5], 0.5),  # the hull is the anchor: 1 - IoU
        ([20, 0, 30, 10], 1 + 100 / 300),  # apart: 1 - 0 + the third of the hull that is in neither
    ],
)
def test_giou_loss_by_hand(box, expected):
    loss = box_loss(torch.zeros(1, 4), ANCHOR, torch.tensor([box], dtype=torch.float32), "giou", 0.11)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60]])
MATCHED = torch.tensor([[1, 0, IGNORE], [BACKGROUND, BACKGROUND, BACKGROUND]])
NO_BOXES, NO_LABELS, NO_CROWD = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
TARGETS = Targets(
    [torch.tensor([[0.0, 0, 10, 20], [2, 0, 12, 10]]), NO_BOXES],
    [torch.tensor([1, 0]), NO_LABELS],
    [torch.zeros(2, dtype=torch.bool), NO_CROWD],
)


def predicted(logits: torch.Tensor, deltas: torch.Tensor | None = None) -> Predictions:
    """Two images of three anchors and two classes; of the first, anchors 0 and 1 are foreground and 2 is ignored."""
    deltas = torch.zeros(2, 3, 4) if deltas is None else deltas
    return Predictions([logits[:, :2], logits[:, 2:]], [deltas[:, :2], deltas[:, 2:]], [ANCHORS[:2], ANCHORS[2:]])


def test_detection_loss_is_the_mean_of_each_images_sum_over_its_foreground():
    logits = torch.full((2, 3, 2), logit(0.9), dtype=torch.float64)
    losses = detection_loss(predicted(logits), MATCHED, TARGETS, box="l1")
    right, wrong = 0.25 * 0.1**2 * -math.log(0.9), 0.75 * 0.9**2 * -math.log(0.1)
    first = (2 * right + 2 * wrong) / 2  # two anchors, each with one class right and one wrong; two are foreground
    second = 6 * wrong / 1  # nothing is foreground: over 1
    assert float(losses["cls"]) == pytest.approx((first + second) / 2, rel=1e-6)
    assert float(losses["box"]) == pytest.approx(
        (0.2 / 2 + 0) / 2, rel=1e-6
    )  # object 1 is 0.2 widths right of anchor 0


def test_labels_are_those_of_the_matched_objects():
    sure = torch.full((2, 3, 2), -30.0)
    sure[0, 0, 0] = sure[0, 1, 1] = 30.0  # anchor 0 has object 1 of class 0, anchor 1 object 0 of class 1
    losses = detection_loss(predicted(sure), MATCHED, TARGETS)
    assert float(losses["cls"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("box", ["smooth_l1", "l1", "giou"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_without_objects_has_finite_loss_and_gradients(box, dtype):
    logits = torch.zeros(2, 3, 2, dtype=dtype, requires_grad=True)
    deltas = torch.zeros(2, 3, 4, dtype=dtype, requires_grad=True)
    nothing = Targets([NO_BOXES] * 2, [NO_LABELS] * 2, [NO_CROWD] * 2)
    losses = detection_loss(predicted(logits, deltas), torch.full((2, 3), BACKGROUND), nothing, box=box)
    (losses["cls"] + losses["box"]).backward()
    # six logits of an image at p = 0.5: 0.75 * 0.5^2 * log 2 each
    assert float(losses["cls"].detach()) == pytest.approx(6 * 0.75 * 0.25 * math.log(2), rel=1e-6)
    assert float(losses["box"].detach()) == 0
    assert logits.grad.isfinite().all() and (logits.grad > 0).all()
    assert torch.equal(deltas.grad, torch.zeros_like(deltas))


LOSSES = ["focal", "ce", "balanced_ce", "focal_star", "ohem", "ohem_1_3", "sampled", "quality_focal", "varifocal"]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_and_ignores_as_it_says(name):
    logits = torch.zeros(2, 3, 2, requires_grad=True)
    criterion = make_criterion(LossConfig(classification=name), AnchorConfig())
    losses = criterion.losses(predicted(logits), MATCHED, replace(TARGETS, keys=(0, 1)))
    losses["cls"].backward()
    assert losses["cls"].isfinite() and logits.grad.isfinite().all()
    assert torch.equal(logits.grad[0, 2], torch.zeros(2))  # ignored
    assert logits.grad[0, 0, 0] < 0 < logits.grad[0, 0, 1]  # the right class rises, the other falls


@pytest.mark.parametrize(
    ("settings", "right", "wrong"),
    [
        ({"classification": "ce"}, 1, 1),
        ({"classification": "balanced_ce"}, 0.75, 0.25),
        ({"classification": "focal"}, 0.25 * 0.25, 0.75 * 0.25),  # at p_t 0.5
        ({"classification": "focal", "gamma": 0.0}, 0.75, 0.25),
        ({"classification": "focal", "gamma": 0.0, "alpha": 0.25}, 0.25, 0.75),
        ({"classification": "focal", "gamma": 0.0, "alpha": (0.25, 0.5)}, (0.25 + 0.5) / 2, (0.75 + 0.5) / 2),
    ],
)
def test_settings_reach_the_loss(settings, right, wrong):
    criterion = make_criterion(LossConfig(**settings), AnchorConfig())
    losses = criterion.losses(predicted(torch.zeros(2, 3, 2)), MATCHED, TARGETS)
    # image 0: two foreground anchors, of class 0 and of class 1; image 1: six wrong answers over 1
    expected = ((2 * right + 2 * wrong) / 2 + 6 * wrong) / 2 * math.log(2)
    assert float(losses["cls"]) == pytest.approx(expected, rel=1e-6)


def test_sampling_divides_by_the_number_of_its_examples():
    criterion = make_criterion(LossConfig(classification="sampled", count=4), AnchorConfig())
    targets = replace(TARGETS, keys=(1, 2))
    losses = criterion.losses(predicted(torch.zeros(2, 3, 2)), MATCHED, targets)
    # image 0: one of two foreground anchors, no background; image 1: three background anchors; each 2 log 2
    assert float(losses["cls"]) == pytest.approx((2 / 1 + 6 / 3) / 2 * math.log(2), rel=1e-6)
    assert losses["box"] == detection_loss(predicted(torch.zeros(2, 3, 2)), MATCHED, TARGETS)["box"]
    with pytest.raises(ValueError, match="there are 0 keys, expected one for each of 2 images"):
        criterion.losses(predicted(torch.zeros(2, 3, 2)), MATCHED, TARGETS)


def test_the_key_of_an_image_decides_its_sample():
    predictions = predicted(torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)))
    criterion = make_criterion(LossConfig(classification="sampled", count=4), AnchorConfig())
    matched = torch.tensor([[1, 0, BACKGROUND], [BACKGROUND] * 3])
    found = {
        key: float(criterion.losses(predictions, matched, replace(TARGETS, keys=(key, 0)))["cls"]) for key in range(9)
    }
    assert len(set(found.values())) == 2  # one of the two foreground anchors


def test_ohem_divides_by_the_number_of_its_examples():
    logits = torch.zeros(2, 3, 2)
    logits[0, 0] = torch.tensor([-2.0, 2.0])  # image 0, anchor 0: the wrong class is sure; its box is not anchor 1's
    criterion = make_criterion(LossConfig(classification="ohem", count=1), AnchorConfig())
    losses = criterion.losses(predicted(logits), MATCHED, TARGETS)
    hardest = 2 * math.log(1 + math.exp(2))  # right class at -2, wrong one at 2
    assert float(losses["cls"]) == pytest.approx((hardest / 1 + 2 * math.log(2) / 1) / 2, rel=1e-6)
    everything = detection_loss(predicted(logits), MATCHED, TARGETS)
    assert losses["box"] == everything["box"]


def test_a_criterion_matches_as_configured():
    found = {}
    for force_best in (False, True):
        anchors = AnchorConfig(foreground_iou=0.99, background_iou=0.9, force_best=force_best)
        criterion = make_criterion(LossConfig(), anchors)
        matched = criterion.match_anchors([ANCHORS[:2], ANCHORS[2:]], TARGETS)
        boxes, crowd = TARGETS.boxes[0], TARGETS.crowd[0]
        assert torch.equal(matched[0], match(ANCHORS, boxes, crowd, 0.99, 0.9, force_best))
        losses = criterion(predicted(torch.zeros(2, 3, 2)), TARGETS)
        assert losses == detection_loss(predicted(torch.zeros(2, 3, 2)), matched, TARGETS)
        found[force_best] = matched.tolist()
    assert found[False] == [[BACKGROUND, 0, BACKGROUND], [BACKGROUND] * 3]
    assert found[True] == [[1, 0, BACKGROUND], [BACKGROUND] * 3]  # anchor 0 is the best one of object 1, IoU 2 / 3


def test_a_criterion_matches_the_levels_with_atss():
    levels = image_anchors((64, 64), AnchorShapes(scales=(1, 1.5)))
    criterion = make_criterion(LossConfig(), AnchorConfig(matching="atss", scales=(1, 1.5)))
    matched = criterion.match_anchors(levels, TARGETS)
    assert torch.equal(matched[0], match_atss(levels, TARGETS.boxes[0], TARGETS.crowd[0], per_cell=6))
    assert torch.equal(matched[1], torch.full_like(matched[1], BACKGROUND)) and (matched[0] >= 0).any()


def test_the_exponential_normaliser_is_the_state_of_its_criterion_alone():
    predictions = predicted(torch.zeros(2, 3, 2))
    criterion = make_criterion(LossConfig(normalizer="exponential"), AnchorConfig())
    twin = copy.copy(criterion)
    by_image = detection_loss(predictions, MATCHED, TARGETS, normalizer=1)
    for expected in (0.9 * 100 + 0.1 * 2, 0.9 * 90.2 + 0.1 * 2):
        losses = criterion.losses(predictions, MATCHED, TARGETS)
        assert float(criterion.running_normalizer) == pytest.approx(expected)
        assert float(losses["cls"]) == pytest.approx(float(by_image["cls"]) / expected)
    assert twin.running_normalizer == 100
    plain = Criterion()
    plain.losses(predictions, MATCHED, TARGETS)
    assert plain.running_normalizer == 100


@pytest.mark.parametrize("wrong", [-100, -3, 3, 80])
@pytest.mark.parametrize("loss", [anchor_focal_loss, anchor_cross_entropy, anchor_focal_star_loss])
def test_a_label_without_a_meaning_is_refused_by_a_loss(loss, wrong):
    logits, labels = torch.zeros(4, 3, requires_grad=True), torch.tensor([0, BACKGROUND, IGNORE, wrong])
    message = rf"a label is {wrong}, expected 0 to 2, -1 \(background\) or -2 \(ignored\)"
    with pytest.raises(ValueError, match=message):
        loss(logits, labels)
    assert loss(logits[:0], labels[:0]).item() == 0
    for mine in (hard_examples, hard_examples_1_3):
        with pytest.raises(ValueError, match=message):
            mine(logits, labels, torch.zeros(4, 4))


@pytest.mark.parametrize("wrong", [-100, BACKGROUND, IGNORE, 3])
def test_an_object_without_a_class_is_refused(wrong):
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    predictions = Predictions([torch.zeros(1, 2, 3)], [torch.zeros(1, 2, 4)], [anchors])
    targets = Targets([anchors], [torch.tensor([0, wrong])], [torch.zeros(2, dtype=torch.bool)])
    criterion = make_criterion(LossConfig(), AnchorConfig())
    calls = (
        lambda: criterion(predictions, targets),
        lambda: criterion.losses(predictions, torch.tensor([[0, 1]]), targets),
        lambda: detection_loss(predictions, torch.tensor([[0, 1]]), targets),
    )
    for call in calls:
        with pytest.raises(ValueError, match=f"a label is {wrong}, expected 0 to 2$"):
            call()


@pytest.mark.parametrize("wrong", [-100, 1])
def test_an_anchor_matched_to_no_object_is_refused(wrong):
    predictions = Predictions([torch.zeros(1, 1, 3)], [torch.zeros(1, 1, 4)], [ANCHOR])
    targets = Targets([ANCHOR], [torch.tensor([0])], [torch.tensor([False])])
    with pytest.raises(ValueError, match=f"an anchor is matched to {wrong}, expected one of 1 objects, -1"):
        detection_loss(predictions, torch.tensor([[wrong]]), targets)
