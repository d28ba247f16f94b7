"""Training steps on a GPU. Without one, the same runs on a CPU where that says anything."""

import math
from functools import partial

import pytest
import torch
from helpers.gpu import DEVICES, ROUNDING, on_gpu, train_steps, waits_of_gpu

from retinanet.paper.baseline_method import BaselineMethod


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_losses_are_near_those_of_a_cpu(tmp_path, device, precision, exact_convolutions):
    if device == "cpu" and precision != "bf16":
        pytest.skip("fp32 on a CPU is what the others are compared with, and fp16 is for GPUs")
    expected = list(train_steps(tmp_path, "cpu", "expected"))
    steps = list(train_steps(tmp_path, device, precision=precision))
    assert len(steps) == len(expected) == 4
    for step in steps:
        assert math.isfinite(step.cls + step.box)
    first, same = steps[0], expected[0]
    assert first.foreground == same.foreground
    # some 20 layers add their roundings; each loss is a sum in float32
    assert (first.cls, first.box) == pytest.approx((same.cls, same.box), rel=20 * ROUNDING[precision])


@on_gpu
@pytest.mark.parametrize("baseline", ["faster-rcnn", "ssd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_baseline_is_trained_on_a_gpu(tmp_path, baseline, precision):
    method = partial(BaselineMethod, baseline)
    expected, *_ = train_steps(tmp_path, "cpu", "expected", method)
    first, *others = train_steps(tmp_path, "cuda", make_method=method, precision=precision)
    assert all(math.isfinite(step.cls + step.box) for step in others) and len(others) == 3
    if baseline == "ssd":  # Faster R-CNN draws other samples
        assert (first.cls, first.box) == pytest.approx((expected.cls, expected.box), rel=0.05)


@on_gpu
def test_a_compiled_step_has_the_losses_of_a_plain_one(tmp_path, exact_convolutions):
    plain = list(train_steps(tmp_path, "cuda", "plain"))
    compiled = list(train_steps(tmp_path, "cuda", "compiled", compile=True))
    assert [step.cls for step in compiled] == pytest.approx([step.cls for step in plain], rel=1e-3)
    assert [step.box for step in compiled] == pytest.approx([step.box for step in plain], rel=1e-3)


@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_host_waits_once_for_a_step(tmp_path, precision):
    counts: list[int] = []
    with waits_of_gpu() as waits:
        for _ in train_steps(tmp_path, "cuda", precision=precision, ema=0.9, clip_norm=1.0):
            counts.append(len(waits))
    # events are reported a step late: there is one whole step between the second and the third
    assert counts[2] - counts[1] <= 1, waits


@on_gpu
def test_the_memory_of_steps_does_not_grow(tmp_path):
    peaks = []
    for _ in train_steps(tmp_path, "cuda", epochs=4):
        peaks.append(torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()
    assert len(peaks) == 16
    assert max(peaks[8:]) <= 1.05 * max(peaks[2:8])  # images of one size, but not as many objects in each
