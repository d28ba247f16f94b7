"""Detection on a GPU. Without one, the same runs on a CPU where that says anything."""

import numpy as np
import pytest
import torch
from helpers.gpu import DEVICES, ROUNDING, make_detector, on_gpu, random_images, waits_of_gpu
from helpers.torchvision_models import detections_are_equal, noise_pictures


@on_gpu
@pytest.mark.parametrize("v2", [False, True])
def test_detections_equal_torchvisions(v2, tmp_path, exact_convolutions):
    detections_are_equal(v2, noise_pictures(), tmp_path, 128, device="cuda")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_scores_are_near_those_of_a_cpu(device, precision, exact_convolutions):
    if device == "cpu" and precision != "bf16":
        pytest.skip("fp16 is for GPUs" if precision == "fp16" else "fp32 on a CPU is what the others are compared with")
    images = random_images(3)
    expected = make_detector("cpu").predict_batch(images)
    found = make_detector(device, precision).predict_batch(images)
    # a score changes by a quarter of what its logit does; some 20 layers add their roundings
    within = 20 * ROUNDING[precision] * 8 / 4
    for ours, theirs in zip(found, expected, strict=True):
        count = min(len(ours), len(theirs))
        assert count > 50
        np.testing.assert_allclose(ours.scores[:20], theirs.scores[:20], rtol=0, atol=within)


@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("images", [1, 4, 16])
def test_the_host_waits_three_times_for_a_batch(images, precision):
    detector = make_detector("cuda", precision)
    inputs = detector.prepare(random_images(images))
    thresholds = [0.02, 0.03]
    detector.model.detect(*inputs, detector.settings, thresholds)  # makes the anchors
    torch.cuda.synchronize()
    with waits_of_gpu() as waits:
        found = detector.model.detect(*inputs, detector.settings, thresholds)
    assert all(map(len, found)) and 1 <= len(waits) <= 3, waits


@on_gpu
def test_the_memory_of_detection_does_not_grow():
    detector, images = make_detector("cuda"), random_images(4)
    detector.predict_batch(images)
    torch.cuda.reset_peak_memory_stats()
    detector.predict_batch(images)
    first, held = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    for _ in range(5):
        detector.predict_batch(images)
    assert torch.cuda.max_memory_allocated() <= 1.01 * first and torch.cuda.memory_allocated() == held
