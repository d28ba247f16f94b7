"""Non-maximum suppression: each class on its own, whatever the number of classes, boxes and coordinates."""

import numpy as np
import pytest
import torch

from retinanet.model import suppression
from retinanet.model.suppression import suppress


def candidates(boxes: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clusters of boxes around objects, some left of and above 0."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-100, 1300, (max(1, boxes // 12), 2))[rng.integers(max(1, boxes // 12), size=boxes)]
    centres = centres + rng.normal(0, 6, (boxes, 2))
    half = 40 * np.exp(rng.normal(0, 0.3, (boxes, 2)))
    xyxy = torch.from_numpy(np.concatenate([centres - half, centres + half], axis=1)).float()
    return xyxy, torch.from_numpy(rng.random(boxes)).float(), torch.from_numpy(rng.integers(classes, size=boxes))


def greedy(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, iou: float) -> tuple[list[int], float]:
    """The rows that remain, best first, and the least distance of an IoU that decided from the threshold."""
    x1, y1, x2, y2 = boxes.double().numpy().T
    area = (x2 - x1) * (y2 - y1)
    gone, remain, nearest = np.zeros(len(boxes), bool), [], np.inf
    label = labels.numpy()
    for row in np.argsort(-scores.double().numpy(), kind="stable"):
        if gone[row]:
            continue
        remain.append(int(row))
        rows = np.flatnonzero(~gone & (label == label[row]))
        width = np.minimum(x2[row], x2[rows]) - np.maximum(x1[row], x1[rows])
        height = np.minimum(y2[row], y2[rows]) - np.maximum(y1[row], y1[rows])
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        overlap = shared / (area[row] + area[rows] - shared)
        nearest = min(nearest, float(np.abs(overlap - iou).min()))
        gone[rows[overlap > iou]] = True
    return remain, nearest


@pytest.mark.parametrize("classes", [1, 80, 1203, 10_000])
@pytest.mark.parametrize("boxes", [50, 1000, 4000])
def test_each_class_is_suppressed_on_its_own(boxes, classes):
    case = candidates(boxes, classes)
    expected, nearest = greedy(*case, 0.5)
    assert nearest > 1e-10  # double precision decides every pair alike
    assert suppress(*case, 0.5).tolist() == expected


def test_a_box_left_of_and_above_the_image_suppresses_no_other_class():
    # shifted by a class at 100 pixels, as the largest coordinate says, the second box would lie on the first
    boxes = torch.tensor([[0.0, 0, 99, 99], [-100, -100, -1, -1], [0, 0, 99, 98]])
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), 0.5).tolist() == [0, 1]


def test_near_boxes_of_a_high_class_stay_apart():
    # IoU 1 / 3; moved to the place of class 9,999 in float32, coordinates would be rounded to multiples of 2
    boxes = torch.tensor([[0.0, 0, 8, 2], [0, 1, 8, 3], [1999, 1999, 2000, 2000]])
    labels = torch.tensor([9999, 9999, 0])
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), labels, 0.4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("classes", [1, 7, 300])
def test_calls_by_class_and_one_call_for_all_give_the_same_rows(classes, monkeypatch):
    boxes, scores, labels = candidates(600, classes)
    scores = (scores * 20).round() / 20  # many are equal
    at_once = suppress(boxes, scores, labels, 0.5)
    monkeypatch.setattr(suppression, "FEW", 0)
    monkeypatch.setattr(suppression, "PAIRS_PER_CALL", 0)
    assert torch.equal(suppress(boxes, scores, labels, 0.5), at_once)


def test_no_boxes():
    empty = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert empty.shape == (0,) and empty.dtype == torch.int64
