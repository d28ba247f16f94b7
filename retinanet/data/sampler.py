"""The order in which training sees the images."""

from collections.abc import Iterator

import numpy as np


class AspectRatioBatchSampler:
    """Batches of (epoch, index) keys, a function of (seed, epoch) alone, from a given position on.

    Batches hold images of one aspect (wide or tall) but for at most two an epoch; an incomplete last batch is left out.
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
        # the images left out are drawn anew each epoch: rolling moves the cut through both groups
        grouped = np.roll(grouped, rng.integers(len(grouped)))
        batches = grouped[: len(self) * self.world * self.batch_size].reshape(len(self), self.world, self.batch_size)
        for batch in rng.permutation(batches)[self.start :, self.rank]:
            yield [(self.epoch, int(index)) for index in batch]
