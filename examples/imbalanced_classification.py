"""The focal loss without a detector: a rare digit in scikit-learn's handwritten digits, one class against all others.

    python imbalanced_classification.py [-o FIGURE] [--repeats N] [--steps N]

Every fifth 8 stays, so that one of 48 pictures is an 8. A small network trains with three losses on one half of the
pictures and is tested on the other, with a new division for each repeat. It needs scikit-learn
(`pip install "retina-detector[examples]"`) and half a minute on one core.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
from loss_comparison import Repeat, Samples, compare
from torch import nn

RARE, KEPT = 8, 5  # the class of interest, and one of how many of its pictures stays


def make_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def repeats(count: int) -> Iterator[Repeat]:
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)  # (N, 64) in 0..16, and (N,)
    inputs = torch.tensor(pixels / 16, dtype=torch.float32)
    targets = torch.tensor(digits == RARE, dtype=torch.float32)[:, None]
    for seed in range(count):
        rng = np.random.default_rng(seed)
        rare, others = (rng.permutation(np.flatnonzero(same)) for same in (digits == RARE, digits != RARE))
        rare = rare[: len(rare) // KEPT]
        rows = [np.concatenate([rare[half::2], others[half::2]]) for half in (0, 1)]
        train, test = (Samples(inputs[half], targets[half]) for half in rows)
        yield Repeat(seed, train, test, make_network)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Three losses on a rare digit against all others.")
    parser.add_argument("-o", "--output", default="imbalanced_classification.png", help="file of the figure")
    parser.add_argument("--repeats", type=int, default=20, help="divisions of the pictures in two halves")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args(arguments)
    compare(repeats(given.repeats), [f"digit {RARE}"], given.steps, 256, given.output)


if __name__ == "__main__":
    main(sys.argv[1:])
