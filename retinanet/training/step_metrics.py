"""What an optimizer step is told by, without waiting for the device while it computes."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retinanet.data.dataset import Sample
from retinanet.data.loader import Batch
from retinanet.errors import DivergenceError
from retinanet.training.events import Note

FIRST_LOSS_RANGE = (0.5, 1.5)  # of the expected value, beyond which the start is suspicious
CLS, BOX, EXPECTED, FOREGROUND = 0, 1, 2, slice(3, None)  # columns of a batch's numbers


@dataclass(frozen=True)
class BatchMetrics:
    """What a batch is told by.

    numbers: (8,) float32, on the device; columns as CLS, BOX, EXPECTED (the "cls" of fresh subnets; nan but at the first
    step) and FOREGROUND (anchors per level P3..P7) say. samples, boxes: of the batch.
    """

    numbers: Tensor
    samples: list[Sample]
    boxes: list[Tensor]

    @classmethod
    def of(cls, losses: dict[str, Tensor], expected: Tensor, matched: Sequence[Tensor], batch: Batch) -> "BatchMetrics":
        """losses: "cls" and "box". matched: per level P3..P7, (B, R_l) from `match`."""
        values = losses["cls"], losses["box"], expected, *((level >= 0).sum() for level in matched)
        return cls(torch.stack([value.detach().float() for value in values]), batch.samples, batch.boxes)


@dataclass(frozen=True)
class StepMetrics:
    """An optimizer step whose numbers are on their way from the device.

    numbers: (N, 8), of the N batches `seen`. arrived: what to wait for before they are read; None: they are there.
    """

    epoch: int
    step: int
    lr: float
    rate: float
    seen: list[BatchMetrics]
    numbers: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, seen: list[BatchMetrics], epoch: int, step: int, lr: float, rate: float) -> "StepMetrics":
        """rate: images per second."""
        together = torch.stack([batch.numbers for batch in seen])
        numbers = together.to("cpu", non_blocking=together.is_cuda)  # into pinned memory
        arrived = torch.cuda.current_stream(together.device).record_event() if together.is_cuda else None
        return cls(epoch, step, lr, rate, seen, numbers, arrived)

    def wait(self) -> None:
        """Until the numbers are there; what follows reads them."""
        if self.arrived is not None:
            self.arrived.synchronize()

    def losses(self) -> tuple[float, float]:
        """Classification and box loss, the mean of the batches'."""
        cls, box = self.numbers[:, [CLS, BOX]].mean(dim=0).tolist()
        return cls, box

    def foreground(self) -> tuple[int, ...]:
        """Anchors per level P3..P7, of all batches."""
        return tuple(map(int, self.numbers[:, FOREGROUND].sum(dim=0).tolist()))

    def check_finite(self) -> None:
        """Raises: DivergenceError if a loss is not."""
        for batch, (cls, box) in zip(self.seen, self.numbers[:, [CLS, BOX]].tolist(), strict=True):
            if math.isfinite(cls + box):
                continue
            images = "; ".join(
                f"image {sample.image_id} ({sample.file}) with boxes {boxes.round(decimals=1).tolist()[:5]}"
                for sample, boxes in zip(batch.samples, batch.boxes, strict=True)
            )
            raise DivergenceError(
                f"step {self.step}: the loss is not finite (cls {cls}, box {box}) at {images}; a lower train.lr or "
                "train.clip_norm=10 helps most often; the last checkpoint is unharmed",
                self.step,
            )

    def compare_first_loss(self, fresh: bool) -> Note:
        """Fresh subnets score the prior everywhere; a first loss far from that tells of wrong data or weights.

        fresh: whether the subnets are, so that it is worth a warning.
        """
        actual, expected = self.numbers[:, [CLS, EXPECTED]].mean(dim=0).tolist()
        text = f"step 1: classification loss {actual:.3f}, {expected:.3f} expected of fresh subnets"
        low, high = FIRST_LOSS_RANGE
        if fresh and not low * expected <= actual <= high * expected:
            text = f"warning: {text}; look at the boxes, the classes and model.prior"
        return Note(f"{text}; foreground anchors on P3..P7: {', '.join(map(str, self.foreground()))}")


class Throughput:
    """Images per second, smoothed over the last steps."""

    def __init__(self) -> None:
        self.seconds_per_image: float | None = None
        self.restart()

    def restart(self) -> None:
        """Begin to count after a pause."""
        self.last = time.perf_counter()

    def rate(self, images: int) -> float:
        """Images per second, `images` more of them done since the last call."""
        now = time.perf_counter()
        sample = (now - self.last) / images
        self.last = now
        old = self.seconds_per_image
        self.seconds_per_image = sample if old is None else 0.9 * old + 0.1 * sample
        return 1 / self.seconds_per_image
