"""What a GPU does for a whole batch gives the detections of each image; here on a CPU."""

import numpy as np
import pytest
import torch
from helpers.waits import Waits

from retinanet.model.anchors import make_anchors
from retinanet.model.batched_postprocess import detect_batch
from retinanet.model.postprocess import detect
from retinanet.model.retinanet import Predictions

SIZES = [(128, 160), (100, 150), (128, 96), (64, 160)]
ORIGINALS = [(128, 160), (331, 507), (77, 60), (640, 1600)]


def random_predictions(seed: int, shift: float = -2, images: int = len(SIZES)) -> Predictions:
    """shift: the mean of the logits, which differ between images."""
    generator = torch.Generator().manual_seed(seed)
    anchors = make_anchors([(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)])
    means = shift - torch.arange(images)[:, None, None]
    logits = [2 * torch.randn(images, len(a), 4, generator=generator) + means for a in anchors]
    return Predictions(logits, [0.5 * torch.randn(images, len(a), 4, generator=generator) for a in anchors], anchors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clip_first", [True, False])
@pytest.mark.parametrize("threshold", [0.05, 0.9, torch.tensor([0.5, 0.1, 1.0, 0.0])])
@pytest.mark.parametrize(("top_k", "limit"), [(1000, 100), (50, 100_000), (7, 5)])
def test_a_batch_gives_the_detections_of_each_image(seed, clip_first, threshold, top_k, limit):
    predictions = random_predictions(seed)
    arguments = predictions, SIZES, ORIGINALS, threshold, top_k, 0.5, limit, clip_first
    batch, finite = detect_batch(*arguments)
    assert finite and len(batch) == len(SIZES)
    for ours, expected in zip(batch, detect(*arguments), strict=True):
        for name, dtype in (("boxes", np.float32), ("scores", np.float32), ("labels", np.int64)):
            assert getattr(ours, name).dtype == dtype
            # the sigmoid of a CPU rounds by the position in memory
            np.testing.assert_allclose(getattr(ours, name), getattr(expected, name), rtol=1e-6, atol=1e-6)
    assert len(batch[0])


def test_images_without_a_detection():
    predictions = random_predictions(0)
    for level in predictions.logits:
        level[1] = -9
    batch, _ = detect_batch(predictions, SIZES, ORIGINALS, 0.05, 1000, 0.5, 100)
    assert [len(each) > 0 for each in batch] == [True, False, True, True]
    batch, _ = detect_batch(random_predictions(0, shift=-30), SIZES, ORIGINALS, 0.05, 1000, 0.5, 100)
    assert [each.boxes.shape for each in batch] == [(0, 4)] * 4


@pytest.mark.parametrize("part", ["logits", "deltas"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_predictions_that_are_not_finite_are_told(part, value):
    predictions = random_predictions(0)
    getattr(predictions, part)[2][3, 0] = value
    assert not detect_batch(predictions, SIZES, ORIGINALS, 0.05, 1000, 0.5, 100)[1]


@pytest.mark.parametrize("images", [1, 4])
def test_the_host_waits_three_times(images, monkeypatch):
    copies = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor) or tensor)
    predictions = random_predictions(0, images=images)
    with Waits() as waits:
        detect_batch(predictions, SIZES[:images], ORIGINALS[:images], 0.2, 50, 0.5, 100)
    assert (waits.names, len(copies)) == (["nonzero", "nms"], 1)
