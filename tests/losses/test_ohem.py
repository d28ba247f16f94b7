"""Online hard example mining against a plain greedy search, and by hand."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.losses.ohem import hard_examples, hard_examples_1_3


def losses_written_out(logits, labels):
    """Sum over the classes of -log p_t, row by row, in float64."""
    return [
        sum(math.log(1 + math.exp(-x if k == label else x)) for k, x in enumerate(row))
        for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True)
    ]


def greedy(logits, labels, boxes, nms_iou):
    """Every survivor of NMS by falling loss, one box at a time."""
    losses = losses_written_out(logits, labels)
    order = sorted((i for i in range(len(labels)) if labels[i] != IGNORE), key=lambda i: -losses[i])
    kept: list[int] = []
    for i in order:
        if not kept or box_iou(boxes[i : i + 1], boxes[kept]).max() <= nms_iou:
            kept.append(i)
    return kept


def crowded(seed, count=3000, classes=4):
    """Boxes that overlap much, one in fifteen of them foreground and one in seven ignored."""
    generator = torch.Generator().manual_seed(seed)
    corner = 200 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 10 + 50 * torch.rand(count, 2, generator=generator)], dim=1)
    labels = torch.full((count,), BACKGROUND)
    labels[::7] = IGNORE
    labels[::15] = torch.randint(classes, (len(labels[::15]),), generator=generator)
    return 3 * torch.randn(count, classes, generator=generator), labels, boxes


@pytest.mark.parametrize("nms_iou", [0.5, 0.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_survivors_are_those_of_the_whole_nms(nms_iou, seed):
    logits, labels, boxes = crowded(seed)
    expected = greedy(logits, labels, boxes, nms_iou)
    assert len(expected) < 5000
    for count in (1, 16, 128, 512, 5000):
        assert hard_examples(logits, labels, boxes, count, nms_iou).tolist() == expected[:count], count


@pytest.mark.parametrize("count", [4, 64, 128, 512])
def test_one_to_three(count):
    logits, labels, boxes = crowded(2)
    survivors = greedy(logits, labels, boxes, 0.5)
    foreground = [i for i in survivors if labels[i] >= 0][: count // 4]
    background = [i for i in survivors if labels[i] == BACKGROUND][: 3 * len(foreground)]
    mined = hard_examples_1_3(logits, labels, boxes, count, 0.5)
    assert mined.tolist() == foreground + background
    assert foreground and len(mined) <= count


def test_by_hand():
    # three boxes apart from each other, and a fourth that covers most of the first
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 10, 9]])
    labels = torch.tensor([BACKGROUND, 0, IGNORE, BACKGROUND])
    logits = torch.tensor([[2.0], [-3.0], [9.0], [1.0]])  # losses 2.13, 3.05, none, 1.31
    assert hard_examples(logits, labels, boxes, 8, 0.5).tolist() == [1, 0]
    assert hard_examples(logits, labels, boxes, 8, 0.95).tolist() == [1, 0, 3]
    assert hard_examples(logits, labels, boxes, 1, 0.5).tolist() == [1]
    assert hard_examples_1_3(logits, labels, boxes, 4, 0.5).tolist() == [1, 0]
    assert hard_examples_1_3(logits, labels, boxes, 3, 0.5).tolist() == []  # a quarter of 3 holds no foreground


@pytest.mark.parametrize("mine", [hard_examples, hard_examples_1_3])
def test_nothing_to_train(mine):
    logits, labels, boxes = torch.zeros(3, 2), torch.full((3,), IGNORE), torch.tensor([[0.0, 0, 9, 9]]).expand(3, 4)
    assert mine(logits, labels, boxes).tolist() == []
    assert hard_examples_1_3(logits, torch.full((3,), BACKGROUND), boxes).tolist() == []
    assert hard_examples(logits, torch.full((3,), BACKGROUND), boxes).tolist() == [0]
