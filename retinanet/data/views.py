"""A data set as training and evaluation see it: resized, and transformed at random."""

import numpy as np

from retinanet.config.schema import AugmentConfig
from retinanet.data.dataset import Dataset, Sample, blank_sample
from retinanet.data.transforms import Resize, augment, resize
from retinanet.errors import DataError


class TrainSamples:
    """A data set seen through resize and random transforms, keyed by (seed, epoch, image) so that workers change nothing."""

    def __init__(
        self,
        dataset: Dataset,
        short_side: int,
        long_side: int,
        augmentation: AugmentConfig,
        seed: int,
        method: Resize = "opencv",
    ):
        self.dataset, self.augmentation, self.seed, self.method = dataset, augmentation, seed, method
        self.short_sides, self.long_side = augmentation.short_sides or (short_side,), long_side

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, list[str]]:
        epoch, index = key
        sample, faults = _readable(self.dataset, index)
        rng = np.random.default_rng([self.seed, epoch, index])
        a = self.augmentation
        short_side = int(rng.choice(self.short_sides))
        sample = augment(sample, rng, flip=a.flip, vertical_flip=a.vertical_flip, jitter=a.jitter, crop=a.crop)
        return resize(sample, short_side, self.long_side, self.method), faults


class EvalSamples:
    """A data set resized, in its own order; an image that cannot be read is a blank one without a size of its own."""

    def __init__(self, dataset: Dataset, short_side: int, long_side: int, method: Resize = "opencv"):
        self.dataset, self.short_side, self.long_side, self.method = dataset, short_side, long_side, method

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, list[str]]:
        try:
            return resize(self.dataset[index], self.short_side, self.long_side, self.method), []
        except DataError as error:
            return blank_sample(int(self.dataset.image_ids[index]), self.dataset.files[index]), [str(error)]


def _readable(dataset: Dataset, index: int) -> tuple[Sample, list[str]]:
    """Sample `index`, or the next one that can be read, with why."""
    faults: list[str] = []
    for offset in range(len(dataset)):
        try:
            return dataset[(index + offset) % len(dataset)], faults
        except DataError as error:
            faults.append(str(error))
    raise DataError(f"none of the {len(dataset)} training images can be read; the first: {faults[0]}")
