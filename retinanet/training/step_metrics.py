"""The numbers of a step, copied from the device asynchronously."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from retinanet.data.dataset import Sample

FIRST_LOSS_RANGE = (0.5, 1.5)  # times the expected value; a first loss outside this range causes a warning
CLS, BOX, EXPECTED, FOREGROUND = 0, 1, 2, slice(3, None)  # columns of `BatchMetrics.numbers`


@dataclass(frozen=True)
class BatchMetrics:
    """The numbers of a batch, still on the device.

    numbers: (3 + L,) float32 over all processes: losses at CLS and BOX; the classification loss of untrained subnets at
        EXPECTED, nan after the first step; the number of foreground anchors on each of L levels at FOREGROUND. L is 5
        for P3..P7, or 0 for a detector that does not count them.
    own: (2,) float32, the losses of this process. samples: those of this process.
    """

    numbers: Tensor
    own: Tensor
    samples: list[Sample]


class StepMetrics:
    """The numbers (N, 3 + L) of an optimizer step of N batches; call `wait` before reading them.

    rate: images per second.
    """

    def __init__(self, batches: list[BatchMetrics], epoch: int, step: int, lr: float, rate: float):
        self.epoch, self.step, self.lr, self.rate = epoch, step, lr, rate
        self.samples = [batch.samples for batch in batches]
        numbers = torch.stack([torch.cat([batch.numbers, batch.own]) for batch in batches])  # (N, 5 + L)
        self.all_numbers = numbers.to("cpu", non_blocking=numbers.is_cuda)  # into pinned memory
        self.arrived = torch.cuda.current_stream(numbers.device).record_event() if numbers.is_cuda else None

    def wait(self) -> None:
        """Wait until the numbers have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        self.numbers, self.own = self.all_numbers[:, :-2], self.all_numbers[:, -2:]

    def is_finite(self) -> bool:
        """Whether the losses of all processes are finite."""
        return all(math.isfinite(cls + box) for cls, box in self.numbers[:, [CLS, BOX]].tolist())

    def images_without_finite_loss(self) -> str:
        """The losses of this process that are not finite, with their images; "" if there are none."""
        return "; ".join(
            f"(cls {cls}, box {box}) for "
            + "; ".join(
                f"image {sample.image_id} ({sample.file}) with boxes {sample.boxes.round(1).tolist()[:5]}"
                for sample in samples
            )
            for samples, (cls, box) in zip(self.samples, self.own.tolist(), strict=True)
            if not math.isfinite(cls + box)
        )

    def foreground(self) -> tuple[int, ...]:
        """Number of foreground anchors on each level P3..P7, in all batches."""
        return tuple(map(int, self.numbers[:, FOREGROUND].sum(dim=0).tolist()))

    def compare_first_loss(self, fresh: bool) -> str:
        """A line about the first classification loss, a warning if it is unusual for `fresh` (untrained) subnets.

        Without the expected loss, where the detector does not know it.
        """
        actual, expected = self.numbers[:, [CLS, EXPECTED]].mean(dim=0).tolist()
        text = f"step 1: classification loss {actual:.3f}"
        if math.isnan(expected):
            return text
        text += f", expected {expected:.3f} from fresh subnets"
        low, high = FIRST_LOSS_RANGE
        if fresh and not low * expected <= actual <= high * expected:
            text = f"warning: {text}; check the boxes, the classes and model.prior"
        return f"{text}; foreground anchors on P3..P7: {', '.join(map(str, self.foreground()))}"


class Throughput:
    """Images per second, smoothed over the last steps."""

    def __init__(self) -> None:
        self.seconds_per_image: float | None = None
        self.restart()

    def restart(self) -> None:
        """Restart the clock after a pause."""
        self.last = time.perf_counter()

    def rate(self, images: int) -> float:
        """Images per second; `images`: their number since the last call."""
        now = time.perf_counter()
        sample = (now - self.last) / images
        self.last = now
        old = self.seconds_per_image
        self.seconds_per_image = sample if old is None else 0.9 * old + 0.1 * sample
        return 1 / self.seconds_per_image
