"""Random sampling: how many of each kind, from which, and that a key decides which."""

import pytest
import torch

from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.losses.sampling import random_examples


def labelled(foreground: int, background: int, ignored: int) -> torch.Tensor:
    """Labels in a random order."""
    labels = torch.tensor([*(i % 3 for i in range(foreground)), *[BACKGROUND] * background, *[IGNORE] * ignored])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("foreground", "background", "expected"),
    [
        (100, 1000, (64, 192)),  # a quarter of 256
        (10, 1000, (10, 246)),  # filled up with background
        (0, 1000, (0, 256)),
        (100, 50, (64, 50)),
        (0, 0, (0, 0)),
    ],
)
def test_at_most_a_quarter_is_foreground(foreground, background, expected):
    labels = labelled(foreground, background, 30)
    rows = random_examples(labels, key=7)
    assert ((labels[rows] >= 0).sum(), (labels[rows] == BACKGROUND).sum()) == expected
    assert len(rows) == sum(expected) == len(rows.unique())


def test_the_key_decides():
    labels = labelled(100, 1000, 30)
    first, again, other = (random_examples(labels, key, 64).tolist() for key in (2**63 - 1, 2**63 - 1, 0))
    assert first == again != other


def test_every_anchor_is_drawn_equally_often():
    labels = labelled(20, 60, 10)
    counts = torch.stack([torch.bincount(random_examples(labels, key, 40), minlength=90) for key in range(2000)]).sum(0)
    # foreground: 10 of 20; background: 30 of 60; a count has a standard deviation of sqrt(2000 / 4) = 22
    assert (counts[labels == IGNORE] == 0).all()
    assert ((counts[labels != IGNORE] - 1000).abs() < 5 * 22).all()
