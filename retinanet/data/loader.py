"""Batches of samples padded to one size, loaded by worker processes."""

import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from retinanet.data.dataset import Sample
from retinanet.data.transforms import pad
from retinanet.data.views import EvalSamples, TrainSamples
from retinanet.errors import DataError

PR_SET_PDEATHSIG = 1  # Linux: signal sent to a process when its parent dies


@dataclass(frozen=True)
class Batch:
    """images: (B, 3, H, W) uint8, or float32 after a float resize, zero-padded at the right and bottom.

    sizes: (B, 2) int64, height and width without the padding.
    boxes: B of (M, 4) float32 xyxy pixels. labels: B of (M,) int64. crowd: B of (M,) bool.
    samples: B, without pixels. faults: messages about unreadable images, one line each.
    """

    images: Tensor
    sizes: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    crowd: list[Tensor]
    samples: list[Sample]
    faults: list[str]

    def to(self, device: torch.device) -> "Batch":
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        boxes, labels, crowd = ([move(t) for t in part] for part in (self.boxes, self.labels, self.crowd))
        return Batch(move(self.images), move(self.sizes), boxes, labels, crowd, self.samples, self.faults)


class Loader(DataLoader):
    """A `DataLoader` that raises a worker's DataError as one line, without traceback."""

    def __iter__(self) -> Any:
        try:
            yield from super().__iter__()
        except DataError as error:
            raise DataError(str(error).rstrip().rpartition("retinanet.errors.DataError: ")[2]) from None


def batch_loader(
    samples: TrainSamples | EvalSamples, keys: Iterable[list[Any]], workers: int, pin_memory: bool = False
) -> DataLoader:
    """Batches of the samples with the `keys` of each batch, loaded by `workers` processes (0: by this process)."""
    # forked workers share the data set's memory; they never use the device
    fork = workers and "fork" in multiprocessing.get_all_start_methods()
    return Loader(
        samples,  # type: ignore[arg-type]
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if fork else None,
        worker_init_fn=_set_up_worker,
        generator=torch.Generator(),  # separate, so that the loader does not change the run's random state
    )


def eval_loader(samples: EvalSamples, batch_size: int, workers: int, pin_memory: bool = False) -> DataLoader:
    """Every image once; images of similar aspect ratio share a batch, to reduce padding."""
    height, width = samples.dataset.sizes.T
    order = np.argsort(height / np.maximum(width, 1), kind="stable")
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    return batch_loader(samples, batches, workers, pin_memory)


def collate(items: Sequence[tuple[Sample, list[str]]]) -> Batch:
    """A batch with images padded to one size, a multiple of 32, in channels-last memory."""
    samples = [sample for sample, _ in items]
    images, sizes = pad([sample.image for sample in samples])
    no_pixels = np.empty((0, 0, 3), np.uint8)  # a slice would keep the pixels alive
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),
        sizes=torch.from_numpy(sizes),
        boxes=[torch.from_numpy(sample.boxes) for sample in samples],
        labels=[torch.from_numpy(sample.labels) for sample in samples],
        crowd=[torch.from_numpy(sample.crowd) for sample in samples],
        samples=[replace(sample, image=no_pixels) for sample in samples],
        faults=[fault for _, faults in items for fault in faults],
    )


def _set_up_worker(_: int) -> None:
    cv2.setNumThreads(0)  # each worker uses one core
    # signals to all processes are handled by the run itself; a second SIGTERM ends the worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if sys.platform == "linux":  # elsewhere a worker notices the end of its run within five seconds
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # if the run ends while it receives a batch, the worker's sending thread would print a traceback
    sys.excepthook = lambda *_: None
