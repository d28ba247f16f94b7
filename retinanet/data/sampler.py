"""Order and batches of the training images."""

from collections.abc import Iterator

import numpy as np

from retinanet.errors import ConfigError


class AspectRatioBatchSampler:
    """Batches of (epoch, index) keys, starting at batch `start`; the order depends only on (seed, epoch).

    All images of a batch are wide or all are tall, except in at most two batches per epoch. An incomplete last batch is
    dropped.

    sizes: (N, 2), height and width of the images. batch_size: number of images in a batch, at most that of the data
        set. rank, world: index and number of processes, each of which has an equal part of every batch.
    Raises: ConfigError if a batch cannot be divided among the processes.
    """

    def __init__(self, sizes: np.ndarray, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        self.wide = sizes[:, 1] >= sizes[:, 0]
        self.batch_size = min(batch_size, max(1, len(sizes)))
        if self.batch_size % world:
            below = self.batch_size // world * world
            fitting = [str(size) for size in (below, below + world) if 0 < size <= len(sizes)]
            raise ConfigError(
                f"a batch of {self.batch_size} images cannot be divided among {world} processes; "
                f"set train.batch_size to {' or '.join(fitting)}"
                if fitting
                else f"{world} processes need at least {world} training images; the data set has {len(sizes)}"
            )
        self.part = slice(rank * self.batch_size // world, (rank + 1) * self.batch_size // world)
        self.seed = seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return len(self.wide) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.wide))
        grouped = np.concatenate([order[self.wide[order]], order[~self.wide[order]]])
        # roll, so that each epoch drops other images
        grouped = np.roll(grouped, rng.integers(len(grouped)))
        batches = grouped[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        for batch in rng.permutation(batches)[self.start :, self.part]:
            yield [(self.epoch, int(index)) for index in batch]
