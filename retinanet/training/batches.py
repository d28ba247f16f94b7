"""The batches of an epoch, of which each process loads an equal part."""

from collections.abc import Iterator
from dataclasses import replace

from torch.utils.data import DataLoader

from retinanet.data.loader import Batch
from retinanet.training.run import Run


def load_batches(run: Run, loader: DataLoader) -> Iterator[Batch]:
    """The batches of `loader`, which follows `run.sampler`, on the run's device.

    The parts of a batch are padded to one size, since the loss counts the anchors on the padding, and each lists the
    faults of all. Raises: DataError in every process if one cannot load its part.
    """
    processes, sampler = run.processes, run.sampler
    parts = iter(loader)
    for _ in range(sampler.start, len(sampler)):
        batch = processes.together(lambda: next(parts))
        height, width, faults = processes.largest(*batch.images.shape[-2:], len(batch.faults))
        if faults:
            batch = replace(batch, faults=[fault for part in processes.gather(batch.faults) for fault in part])
        yield batch.padded_to(height, width).to(run.device)
