"""Random sampling: train some anchors of an image, whatever their loss (Girshick 2015; Ren et al. 2015)."""

import torch
from torch import Tensor

from retinanet.losses.matching import BACKGROUND


@torch.no_grad()
def random_examples(labels: Tensor, key: int, count: int = 256) -> Tensor:
    """`count` random anchors of an image, at most a quarter of them foreground (1:3), the others background.

    The heuristic of two-stage detectors that the paper names beside OHEM (sections 1 and 2). As in the RPN (Ren et al.
    2015, section 3.1.3), background takes the place of foreground that is missing; there, half of 256 anchors may be
    foreground. The quarter is that of Fast R-CNN (Girshick 2015, section 2.3). Ignored anchors are left out.

    Args:
        labels: (R,) int64, 0..K-1, BACKGROUND or IGNORE. count: > 0.
        key: 0..2^63-1; equal keys and labels give equal samples, on every device.
    Returns: (n,) int64 rows, foreground before background, n <= count.
    """
    generator = torch.Generator().manual_seed(key)
    foreground = _drawn((labels >= 0).nonzero().squeeze(1), count // 4, generator)
    background = (labels == BACKGROUND).nonzero().squeeze(1)
    return torch.cat([foreground, _drawn(background, count - len(foreground), generator)])


def _drawn(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most `count` of the rows (n,), without repetition."""
    return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
