"""Batches of samples padded to one size, loaded by worker processes."""

import errno
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import forkserver
from multiprocessing.sharedctypes import RawValue
from threading import Thread
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from retinanet.config.schema import DataConfig
from retinanet.data.dataset import Sample
from retinanet.data.transforms import pad
from retinanet.data.views import EvalSamples, TrainSamples
from retinanet.devices import usable_cores
from retinanet.distributed import current_processes
from retinanet.errors import LOADER_WITHOUT_FILES, DataError, is_out_of_files
from retinanet.parent_process import end_with_parent

# that a run opens for its workers: pipes, and what waits for the end of a worker; measured with 1 to 8 workers
OTHER_FILES, FILES_PER_WORKER = 8, 5


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

    def padded_to(self, height: int, width: int) -> "Batch":
        """The batch with images (B, 3, height, width), padded with more zeros."""
        bottom, right = height - self.images.shape[2], width - self.images.shape[3]
        if not bottom and not right:
            return self
        images = F.pad(self.images, (0, right, 0, bottom)).contiguous(memory_format=torch.channels_last)
        return replace(self, images=images)

    def to(self, device: torch.device) -> "Batch":
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        boxes, labels, crowd = ([move(t) for t in part] for part in (self.boxes, self.labels, self.crowd))
        return Batch(move(self.images), move(self.sizes), boxes, labels, crowd, self.samples, self.faults)


class Loader(DataLoader):
    """A `DataLoader` that raises a worker's DataError as one line, without traceback.

    out_of_files: shared memory that a worker sets before it ends because it may open no more files.
    """

    def __init__(self, *arguments: Any, out_of_files: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.out_of_files = out_of_files

    def check_worker_number_rationality(self) -> None:
        """Nothing, in place of torch's warning; `workers_note` is ours."""

    def __iter__(self) -> Any:
        if self.num_workers:
            require_files(OTHER_FILES + FILES_PER_WORKER * self.num_workers)
        try:
            yield from super().__iter__()
        except DataError as error:
            raise DataError(str(error).rstrip().rpartition("retinanet.errors.DataError: ")[2]) from None
        except RuntimeError:
            if self.out_of_files.value:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
            raise


def workers_note(workers: int) -> list[str]:
    """A warning if there are more workers than cores and than the default."""
    cores = usable_cores()
    if workers <= max(cores, DataConfig.workers):
        return []
    return [
        f"warning: data.workers is {workers} on {cores} core{'s' * (cores > 1)}; fewer take less memory and are seldom "
        "slower"
    ]


def require_files(number: int) -> None:
    """Raises: OSError if this process may not open so many more files."""
    opened: list[int] = []
    try:
        for _ in range(number):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for file in opened:
            os.close(file)


def batch_loader(
    samples: TrainSamples | EvalSamples, keys: Iterable[list[Any]], workers: int, pin_memory: bool = False
) -> DataLoader:
    """Batches of the samples with the `keys` of each batch, loaded by `workers` processes (0: by this process).

    Several processes that share a run keep their workers from epoch to epoch, since these start slowly.
    """
    start_method = _start_method() if workers else None
    out_of_files = RawValue("b")
    return Loader(
        samples,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        multiprocessing_context=start_method,
        persistent_workers=start_method == "forkserver",
        worker_init_fn=partial(_set_up_worker, out_of_files),
        out_of_files=out_of_files,
        generator=torch.Generator(),  # separate, so that the loader does not change the run's random state
    )


def eval_loader(samples: EvalSamples, batch_size: int, workers: int, pin_memory: bool = False) -> DataLoader:
    """Every image once, of which each process loads a part; images of similar aspect ratio share a batch.

    Batch i is loaded by process i modulo their number.
    """
    height, width = samples.dataset.sizes.T
    order = np.argsort(height / np.maximum(width, 1), kind="stable")
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    processes = current_processes()
    return batch_loader(samples, batches[processes.rank :: processes.world], workers, pin_memory)


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


def _start_method() -> str | None:
    """How workers start; None: as Python does by default."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    if current_processes().world == 1:
        return "fork"  # shares the data set's memory; workers never use the device
    # a fork of a process with the threads of gloo or NCCL may hold a lock for ever
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to all; the server must outlive the run
    multiprocessing.set_forkserver_preload([__name__])
    forkserver.ensure_running()
    signal.signal(signal.SIGTERM, handler)
    return "forkserver"


def _set_up_worker(out_of_files: Any, _: int) -> None:
    cv2.setNumThreads(0)  # each worker uses one core
    # signals to all processes are handled by the run itself; a second SIGTERM ends the worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    end_with_parent()  # not on Linux, a worker notices the end of its run within five seconds
    if multiprocessing.get_start_method() == "forkserver":
        Thread(target=_end_with_run, daemon=True).start()
    # the thread that sends batches drops one that it cannot send, for which the run would wait for ever
    end = partial(_end_worker, out_of_files)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]
    # if the run ends while it receives a batch, the worker's sending thread would print a traceback
    sys.excepthook = lambda *_: None


def _end_worker(out_of_files: Any, error: Exception, _: object) -> None:
    """End this process, since a batch could not be sent because of `error`."""
    out_of_files.value = is_out_of_files(error)  # torch's message has the exit code or not
    os._exit(LOADER_WITHOUT_FILES if out_of_files.value else 1)


def _end_with_run() -> None:
    """End this worker when the process of its run ends, which is not its parent."""
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)
