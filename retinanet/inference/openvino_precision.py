"""The precision in which OpenVINO computes on the CPU: how it is asked for, told, and chosen by a measurement."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from retinanet.precision import WIDEST, Pass, Precision, faster, shortest_times

SIDE = 32  # cells of the measured layer's map


def openvino_hint(precision: Precision) -> dict[str, str]:
    """OpenVINO's properties for `precision` and single images; by default it takes bf16 on a CPU that supports it."""
    return {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}


def openvino_precision(openvino: Any, compiled: Any) -> Literal["fp32", "bf16"]:
    """The precision of a compiled model: fp32, also where bf16 was asked for, on a CPU without instructions for it."""
    return "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16 else "fp32"


def fastest_openvino_precision(
    openvino: Any,
    core: Any,
    width: int,
    times: Callable[[Sequence[Pass]], Sequence[float]] = shortest_times,
) -> Literal["fp32", "bf16"]:
    """What `auto` stands for: the precision in which OpenVINO computes a 3 x 3 convolution faster.

    openvino: the module. width: channels of the convolution. times: measures the passes in fp32 and bf16, in seconds.
    """
    channels = min(width, WIDEST)
    image = openvino.opset13.parameter([1, channels, SIDE, SIDE], np.float32)
    weights = openvino.opset13.constant(np.zeros((channels, channels, 3, 3), np.float32))
    layer = openvino.opset13.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([layer], [image], "convolution")
    one_thread = {"INFERENCE_NUM_THREADS": "1"}  # several wait for each other on a busy machine
    fp32, bf16 = (core.compile_model(model, "CPU", openvino_hint(each) | one_thread) for each in ("fp32", "bf16"))
    if openvino_precision(openvino, bf16) == "fp32":
        return "fp32"
    pixels = np.zeros((1, channels, SIDE, SIDE), np.float32)
    first, second = (compiled.create_infer_request() for compiled in (fp32, bf16))
    return faster(lambda: first.infer([pixels]), lambda: second.infer([pixels]), times)
