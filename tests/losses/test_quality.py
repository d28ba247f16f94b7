"""The losses whose target is the quality of a box: their formulas in double precision, gradients and targets."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from retinanet.config.schema import AnchorConfig, LossConfig
from retinanet.losses import fused
from retinanet.losses.criterion import Targets, make_criterion
from retinanet.losses.focal import anchor_cross_entropy, anchor_focal_loss
from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.losses.quality import anchor_quality_focal_loss, anchor_varifocal_loss
from retinanet.model.boxes import encode
from retinanet.model.retinanet import Predictions


def rows(count: int = 60, classes: int = 5, seed: int = 0):
    """Logits, labels of every kind and qualities, of which some are 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(IGNORE, classes, (count,), generator=generator)
    quality = torch.rand(count, generator=generator, dtype=torch.float64)
    foreground = (labels >= 0).nonzero().squeeze(1)
    quality[foreground[::5]], quality[foreground[1::5]] = 0, 1
    return logits, labels, quality


def cross_entropy(p: float, y: float) -> float:
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def quality_focal(p: float, y: float, gamma: float) -> float:
    return abs(p - y) ** gamma * cross_entropy(p, y)


def varifocal(p: float, q: float, alpha: float, gamma: float) -> float:
    return q * cross_entropy(p, q) if q > 0 else alpha * p**gamma * cross_entropy(p, 0)


def written_out(formula, logits, labels, quality) -> float:
    """The sum of `formula(p, target)` over the classes of all rows that are not ignored."""
    total = 0.0
    for row, label, value in zip(logits.tolist(), labels.tolist(), quality.tolist(), strict=True):
        for k, x in enumerate(row if label != IGNORE else []):
            total += formula(1 / (1 + math.exp(-x)), value if k == label else 0.0)
    return total


LOSSES = [
    *((partial(anchor_quality_focal_loss, gamma=g), partial(quality_focal, gamma=g)) for g in (0, 1, 2, 2.5)),
    *(
        (partial(anchor_varifocal_loss, alpha=a, gamma=g), partial(varifocal, alpha=a, gamma=g))
        for a, g in ((0.75, 2), (1, 1.5), (0.3, 0))
    ),
]


def value_and_gradient(loss, logits, labels, quality):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, labels, quality)
    value.sum().backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize(("loss", "formula"), LOSSES)
def test_the_sum_and_its_gradient(loss, formula):
    logits, labels, quality = rows()
    assert {0.0, 1.0} < {*quality[labels >= 0].tolist()}
    assert float(loss(logits, labels, quality)) == pytest.approx(
        written_out(formula, logits, labels, quality), rel=1e-9
    )
    few = rows(count=12)
    by_image = [tensor.unflatten(0, (2, 6)) for tensor in few]
    assert torch.autograd.gradcheck(lambda x: loss(x, *by_image[1:]), by_image[0].clone().requires_grad_())
    torch.testing.assert_close(loss(*by_image).sum(), loss(*few))
    single = loss(logits.float(), labels, quality.float())
    torch.testing.assert_close(single.double(), loss(logits, labels, quality), rtol=1e-6, atol=0)


def test_the_defaults_are_those_of_the_papers():
    given = rows()
    assert anchor_quality_focal_loss(*given) == anchor_quality_focal_loss(*given, gamma=2)
    assert anchor_varifocal_loss(*given) == anchor_varifocal_loss(*given, alpha=0.75, gamma=2)


def test_of_perfect_boxes_quality_focal_is_the_focal_loss_without_alpha():
    logits, labels, _ = rows()
    perfect = torch.ones(60, dtype=torch.float64)
    ours, focal = (
        value_and_gradient(loss, logits, labels, perfect)
        for loss in (anchor_quality_focal_loss, lambda x, y, _: 2 * anchor_focal_loss(x, y, alpha=0.5))
    )
    torch.testing.assert_close(ours, focal, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [anchor_quality_focal_loss, anchor_varifocal_loss])
def test_where_the_score_equals_the_quality_there_is_no_gradient(loss):
    logits = torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64)
    quality = torch.tensor([0.5, 0.75], dtype=torch.float64)
    _, gradient = value_and_gradient(loss, logits, torch.zeros(2, dtype=torch.int64), quality)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("loss", "formula"), LOSSES)
@pytest.mark.parametrize("chunk", [1, 35, 42])
def test_chunks_change_neither_loss_nor_gradient(monkeypatch, loss, formula, chunk):
    expected = value_and_gradient(loss, *rows())
    monkeypatch.setattr(fused, "CPU_CHUNK", chunk)
    torch.testing.assert_close(value_and_gradient(loss, *rows()), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [anchor_quality_focal_loss, anchor_varifocal_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_finite_at_saturated_logits(loss, dtype):
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0], [0.0]], dtype=dtype)
    labels = torch.tensor([0, 0, BACKGROUND, BACKGROUND, IGNORE])
    value, gradient = value_and_gradient(loss, logits, labels, torch.tensor([1.0, 1, 0.5, 0.5, math.nan]))
    weight = 0.75 if loss is anchor_varifocal_loss else 1
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(100 + 100 * weight, rel=1e-6)  # |x| for each wrong answer
    torch.testing.assert_close(gradient.squeeze(1), torch.tensor([0, -1, weight, 0, 0], dtype=dtype))


@pytest.mark.parametrize("loss", [anchor_quality_focal_loss, anchor_varifocal_loss])
def test_no_gradient_passes_through_the_quality_and_other_shapes_are_refused(loss):
    logits, labels, quality = rows()
    value = loss(logits, labels, quality.requires_grad_())
    assert not value.requires_grad
    with pytest.raises(ValueError, match=r"the shape of quality is \(60, 1\), expected that of labels, \(60,\)"):
        loss(logits, labels, quality[:, None])
    with pytest.raises(ValueError, match=r"a label is 5, expected 0 to 4"):
        loss(logits, labels + 1, quality)


ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60]])
MATCHED = torch.tensor([[1, 0, BACKGROUND], [BACKGROUND] * 3])
TARGETS = Targets(
    [torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 10]]), torch.zeros(0, 4)],
    [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.int64)],
    [torch.zeros(2, dtype=torch.bool), torch.zeros(0, dtype=torch.bool)],
)


@pytest.mark.parametrize("normalizer", ["image", "exponential"])
@pytest.mark.parametrize(
    ("name", "formula"),
    [("quality_focal", partial(quality_focal, gamma=2)), ("varifocal", partial(varifocal, alpha=0.75, gamma=2))],
)
def test_the_target_is_the_iou_of_the_predicted_box(name, formula, normalizer):
    # the box of anchor 0 is the right half of its object, that of anchor 1 equals its object, that of 2 has none
    boxes = torch.tensor([[5.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 10]])
    deltas = encode(boxes, ANCHORS).expand(2, 3, 4).clone().requires_grad_()
    logits = torch.full((2, 3, 2), math.log(0.2 / 0.8), requires_grad=True)
    criterion = make_criterion(LossConfig(classification=name, normalizer=normalizer), AnchorConfig())
    losses = criterion.losses(Predictions([logits], [deltas], [ANCHORS]), MATCHED, TARGETS)
    first = formula(0.2, 0.5) + formula(0.2, 1.0) + 4 * formula(0.2, 0)  # two anchors are foreground
    second = 6 * formula(0.2, 0)  # none is
    expected = (first / 2 + second / 1) / 2 if normalizer == "image" else (first + second) / (0.9 * 100 + 0.1 * 2)
    assert float(losses["cls"].detach()) == pytest.approx(expected, rel=1e-5)
    losses["cls"].backward()
    assert deltas.grad is None and logits.grad.isfinite().all()
    assert logits.grad[0, 0, 0] < 0 < logits.grad[0, 0, 1]  # towards 0.5 and towards 0
    by_focal = make_criterion(LossConfig(normalizer=normalizer), AnchorConfig())
    plain = by_focal.losses(Predictions([logits], [deltas], [ANCHORS]), MATCHED, TARGETS)
    assert losses["box"].detach() == plain["box"].detach()


def test_varifocal_of_gamma_zero_is_cross_entropy_where_nothing_is_right():
    logits, _, quality = rows()
    labels = torch.full((60,), BACKGROUND)
    expected = F.softplus(logits).sum()
    torch.testing.assert_close(anchor_varifocal_loss(logits, labels, quality, alpha=1, gamma=0), expected)
    torch.testing.assert_close(anchor_cross_entropy(logits, labels), expected)
