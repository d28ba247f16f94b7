"""The focal loss, forward and backward, compared with torchvision's on a dense one-hot target: two images, 80 classes.

Usage: python benchmarks/focal_loss.py
"""

from collections.abc import Callable
from functools import partial

import torch
from paired import compare, peak_memory
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet.losses.criterion import Targets, detection_loss
from retinanet.losses.focal import anchor_focal_loss
from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.model.retinanet import Predictions

IMAGES, ANCHORS, CLASSES = 2, 120_087, 80

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (N, K) and labels (N,) -> scalar


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = IMAGES * ANCHORS
    logits = 1.5 * torch.randn(count, CLASSES, generator=generator) - 4.6  # the prior of 0.01
    labels = torch.full((count,), BACKGROUND)
    labels[::1000] = torch.randint(CLASSES, labels[::1000].shape, generator=generator)
    labels[1::500] = IGNORE
    return logits.requires_grad_(), labels


def ours(logits: Tensor, labels: Tensor) -> Tensor:
    return anchor_focal_loss(logits, labels, 0.25, 2.0)


def theirs(logits: Tensor, labels: Tensor) -> Tensor:
    """Like torchvision's RetinaNetClassificationHead.compute_loss."""
    foreground, kept = labels >= 0, labels != IGNORE
    targets = torch.zeros_like(logits)
    targets[foreground, labels[foreground]] = 1.0
    return torchvision_focal_loss(logits[kept], targets[kept], alpha=0.25, gamma=2.0, reduction="sum")


def whole(logits: Tensor, labels: Tensor) -> Tensor:
    """`detection_loss` of both images."""
    generator = torch.Generator().manual_seed(0)
    corner = 1000 * torch.rand(ANCHORS, 2, generator=generator)
    anchors = torch.cat([corner, corner + 50], dim=1)
    matched = torch.where(labels >= 0, 0, labels).view(IMAGES, ANCHORS)
    deltas = torch.zeros(IMAGES, ANCHORS, 4, requires_grad=True)
    targets = Targets([anchors[:1] + 3] * IMAGES, [torch.tensor([5])] * IMAGES, [torch.tensor([False])] * IMAGES)
    predictions = Predictions([logits.view(IMAGES, ANCHORS, CLASSES)], [deltas], [anchors])
    losses = detection_loss(predictions, matched, targets)
    return losses["cls"] + losses["box"]


def step(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    logits.grad = None
    loss(logits, labels).backward()


def prepared(loss: Loss) -> Callable[[], None]:
    logits, labels = inputs()
    step(ours, logits[:4000].detach().requires_grad_(), labels[:4000])  # memory that the first use of threads allocates
    return partial(step, loss, logits, labels)


def main() -> None:
    logits, labels = inputs()
    compare("focal loss", partial(step, ours, logits, labels), partial(step, theirs, logits, labels))
    print(f"logits: {logits.nbytes / 1e6:.0f} MB")
    for loss in (ours, theirs, whole):
        print(f"peak extra memory, {loss.__name__}: {peak_memory(partial(prepared, loss)):.0f} MB")


if __name__ == "__main__":
    main()
