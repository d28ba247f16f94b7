"""The number format in which a network computes, and the choice of the faster one by a measurement."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from retinanet.devices import computing_in

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionChoice = Literal["fp32", "bf16", "fp16", "auto"]
Pass = Callable[[], object]  # computes one layer

MARGIN = 0.9  # of the time in fp32; a smaller gain is not worth bf16's rounding, and may be the machine's other load
TURNS, ENOUGH = 6, 0.2  # the most turns, and the seconds after which none begins
WIDEST = 256  # channels of the measured layer: the paper's


def shortest_times(passes: Sequence[Pass]) -> list[float]:
    """The shortest time of each of `passes` in seconds. They run in turns, the first of which prepares the others."""
    turns = [[_seconds(each) for each in passes]]
    started = time.perf_counter()
    while len(turns) < 2 or len(turns) <= TURNS and time.perf_counter() - started < ENOUGH:
        turns.append([_seconds(each) for each in passes])
    return list(map(min, zip(*turns[1:], strict=True)))


def faster(
    fp32: Pass, bf16: Pass, times: Callable[[Sequence[Pass]], Sequence[float]] = shortest_times
) -> Literal["fp32", "bf16"]:
    """bf16 if its pass takes less than MARGIN of the time of the pass in fp32, else fp32.

    times: measures the passes, in seconds.
    """
    in_fp32, in_bf16 = times((fp32, bf16))
    return "bf16" if in_bf16 < MARGIN * in_fp32 else "fp32"


def fastest_precision(
    device: "torch.device",
    width: int,
    backward: bool,
    times: Callable[[Sequence[Pass]], Sequence[float]] = shortest_times,
) -> Literal["fp32", "bf16"]:
    """What `auto` stands for when torch computes on `device`.

    A CPU computes a 3 x 3 convolution in both precisions, since the instructions that it has do not tell: with the same
    ones (AVX-512 BF16), AMD's Zen 4 takes a third of the time of fp32 and an Intel Xeon without AMX twice as long. Of
    GPUs, those since Nvidia's Ampere compute faster in bf16. The random state and the number of threads do not change.

    Args:
        width: channels of the convolution. backward: also compute the gradients, as training does.
        times: measures the passes in fp32 and bf16, in seconds.
    """
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type != "cpu":
        return "fp32"
    channels = min(width, WIDEST)
    layer = torch.nn.utils.skip_init(torch.nn.Conv2d, channels, channels, 3, padding=1)
    torch.nn.init.zeros_(layer.weight)  # draws no random number
    layer = layer.to(memory_format=torch.channels_last)
    side = max(8, 1024 // channels)  # a wide layer takes long enough on few cells
    image = torch.zeros(1, channels, side, side, requires_grad=backward)

    def run(precision: Precision) -> None:
        with torch.set_grad_enabled(backward), computing_in(precision, device):
            output = layer(image)
        if backward:
            output.sum().backward()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other on a busy machine
    try:
        return faster(lambda: run("fp32"), lambda: run("bf16"), times)
    finally:
        torch.set_num_threads(threads)


def name_precision(precision: Precision, int8: bool) -> str:
    """The name of a model's arithmetic, such as int8+bf16 if most layers are in int8 and the others in bf16."""
    if not int8:
        return precision
    return "int8" if precision == "fp32" else f"int8+{precision}"


def precision_beside_int8(name: str) -> Precision:
    """The precision that `name_precision` was given."""
    beside = name.removeprefix("int8").removeprefix("+") or "fp32"
    return next(each for each in get_args(Precision) if each == beside)


def _seconds(run: Pass) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
