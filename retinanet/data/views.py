"""Samples for training, augmented and resized, and for evaluation, only resized."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retinanet.config.schema import AugmentConfig
from retinanet.data.dataset import Dataset, Sample, blank_sample
from retinanet.data.transforms import Resizing, augment, resize
from retinanet.errors import DataError


class TrainSamples:
    """Augmented and resized samples; keys are (epoch, image index).

    Randomness depends only on (seed, epoch, image), not on the number of workers. resizings: one is drawn per sample.
    """

    def __init__(self, dataset: Dataset, resizings: Sequence[Resizing], augmentation: AugmentConfig, seed: int):
        self.dataset, self.resizings, self.augmentation, self.seed = dataset, resizings, augmentation, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, list[str]]:
        epoch, index = key
        sample, faults = _readable(self.dataset, index)
        rng = np.random.default_rng([self.seed, epoch, index])
        resizing = self.resizings[rng.choice(len(self.resizings))]
        augmented = resize(augment(sample, rng, self.augmentation), resizing)
        return replace(augmented, key=int(rng.integers(2**63))), faults


class EvalSamples:
    """Resized samples in the order of the data set; an unreadable image becomes a `blank_sample`."""

    def __init__(self, dataset: Dataset, resizing: Resizing):
        self.dataset, self.resizing = dataset, resizing

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, list[str]]:
        try:
            return resize(self.dataset[index], self.resizing), []
        except DataError as error:
            return blank_sample(int(self.dataset.image_ids[index]), self.dataset.files[index]), [str(error)]


def _readable(dataset: Dataset, index: int) -> tuple[Sample, list[str]]:
    """Sample `index` or the next readable one, and a message for each unreadable one."""
    faults: list[str] = []
    for offset in range(len(dataset)):
        try:
            return dataset[(index + offset) % len(dataset)], faults
        except DataError as error:
            faults.append(str(error))
    raise DataError(f"none of the {len(dataset)} training images can be read; the first: {faults[0]}")
