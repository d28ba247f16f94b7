"""The numbers of a step, copied from the device asynchronously."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retinanet.data.dataset import Sample
from retinanet.data.loader import Batch
from retinanet.errors import DivergenceError

FIRST_LOSS_RANGE = (0.5, 1.5)  # times the expected value; a first loss outside this range causes a warning
CLS, BOX, EXPECTED, FOREGROUND = 0, 1, 2, slice(3, None)  # columns of `BatchMetrics.numbers`


@dataclass(frozen=True)
class BatchMetrics:
    """The numbers of a batch, still on the device, with its samples and boxes.

    numbers: (8,) float32: losses at CLS and BOX; the classification loss of untrained subnets at EXPECTED, nan after
        the first step; the number of foreground anchors on each level P3..P7 at FOREGROUND.
    """

    numbers: Tensor
    samples: list[Sample]
    boxes: list[Tensor]

    @classmethod
    def of(cls, losses: dict[str, Tensor], expected: Tensor, matched: Sequence[Tensor], batch: Batch) -> "BatchMetrics":
        """losses: {"cls", "box"}. expected: a scalar. matched: (B, R_l) for each level P3..P7, from `match`."""
        values = losses["cls"], losses["box"], expected, *((level >= 0).sum() for level in matched)
        return cls(torch.stack([value.detach().float() for value in values]), batch.samples, batch.boxes)


@dataclass(frozen=True)
class StepMetrics:
    """The numbers of an optimizer step; call `wait` before reading them.

    rate: images per second. numbers: (N, 8), of the N batches. arrived: the end of the copy; None on a CPU.
    """

    epoch: int
    step: int
    lr: float
    rate: float
    batches: list[BatchMetrics]
    numbers: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, batches: list[BatchMetrics], epoch: int, step: int, lr: float, rate: float) -> "StepMetrics":
        """Start copying the numbers from the device."""
        together = torch.stack([batch.numbers for batch in batches])
        numbers = together.to("cpu", non_blocking=together.is_cuda)  # into pinned memory
        arrived = torch.cuda.current_stream(together.device).record_event() if together.is_cuda else None
        return cls(epoch, step, lr, rate, batches, numbers, arrived)

    def wait(self) -> None:
        """Wait until the numbers have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()

    def losses(self) -> tuple[float, float]:
        """Classification and box loss, each the mean over the batches."""
        cls, box = self.numbers[:, [CLS, BOX]].mean(dim=0).tolist()
        return cls, box

    def foreground(self) -> tuple[int, ...]:
        """Number of foreground anchors on each level P3..P7, in all batches."""
        return tuple(map(int, self.numbers[:, FOREGROUND].sum(dim=0).tolist()))

    def check_finite(self) -> None:
        """Raises: DivergenceError if a loss is not finite."""
        for batch, (cls, box) in zip(self.batches, self.numbers[:, [CLS, BOX]].tolist(), strict=True):
            if math.isfinite(cls + box):
                continue
            images = "; ".join(
                f"image {sample.image_id} ({sample.file}) with boxes {boxes.round(decimals=1).tolist()[:5]}"
                for sample, boxes in zip(batch.samples, batch.boxes, strict=True)
            )
            raise DivergenceError(
                f"step {self.step}: the loss is not finite (cls {cls}, box {box}) for {images}; "
                "try a lower train.lr or train.clip_norm=10; the last checkpoint is intact",
                self.step,
            )

    def compare_first_loss(self, fresh: bool) -> str:
        """A line about the first classification loss, a warning if it is unusual for `fresh` (untrained) subnets."""
        actual, expected = self.numbers[:, [CLS, EXPECTED]].mean(dim=0).tolist()
        text = f"step 1: classification loss {actual:.3f}, expected {expected:.3f} from fresh subnets"
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
