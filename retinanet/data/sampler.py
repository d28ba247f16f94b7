"""Order and batches of the training images."""

from collections.abc import Iterator

import numpy as np


class AspectRatioBatchSampler:
    """Batches of (epoch, index) keys, starting at batch `start`; the order depends only on (seed, epoch).

    All images of a batch are wide or all are tall, except in at most two batches per epoch. An incomplete last batch is
    dropped.

    sizes: (N, 2), height and width of the images. rank, world: index and number of processes, each with `batch_size`
        images per batch.
    """

    def __init__(self, sizes: np.ndarray, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        self.wide = sizes[:, 1] >= sizes[:, 0]
        self.batch_size = min(batch_size, max(1, len(sizes) // world))
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return len(self.wide) // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.wide))
        grouped = np.concatenate([order[self.wide[order]], order[~self.wide[order]]])
        # roll, so that each epoch drops other images
        grouped = np.roll(grouped, rng.integers(len(grouped)))
        batches = grouped[: len(self) * self.world * self.batch_size].reshape(len(self), self.world, self.batch_size)
        for batch in rng.permutation(batches)[self.start :, self.rank]:
            yield [(self.epoch, int(index)) for index in batch]
