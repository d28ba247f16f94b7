"""The focal loss, forward and backward, compared with torchvision's: two images, 80 classes.

The loss of labelled anchors is compared with torchvision's on a dense one-hot target that is made of the labels, the
drop-in with torchvision's on the same target. Usage: python benchmarks/focal_loss.py
"""

from collections.abc import Callable
from functools import partial

import torch
from paired import compare, peak_memory
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from retinanet.devices import processor
from retinanet.losses.criterion import Targets, detection_loss
from retinanet.losses.elementwise import sigmoid_focal_loss
from retinanet.losses.focal import anchor_focal_loss
from retinanet.losses.matching import BACKGROUND, IGNORE
from retinanet.model.retinanet import Predictions

IMAGES, ANCHORS, CLASSES = 2, 120_087, 80

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (N, K), and labels (N,) or targets (N, K) -> scalar


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
    kept = labels != IGNORE
    return torchvision_focal_loss(logits[kept], one_hot(labels)[kept], alpha=0.25, gamma=2.0, reduction="sum")


KINDS = {"one-hot": ("sum", "mean", "none"), "multi-label": ("sum",), "soft": ("sum",)}  # targets -> reductions
DROP_INS = (sigmoid_focal_loss, torchvision_focal_loss)


def total(loss: Callable[..., Tensor], reduction: str, logits: Tensor, targets: Tensor) -> Tensor:
    return loss(logits, targets, alpha=0.25, gamma=2, reduction=reduction).sum()


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


def targets_of(kind: str, labels: Tensor) -> Tensor:
    """Targets (N, K) of a detector, one-hot; of several classes at once, each with probability 1/2; or soft, 0..1."""
    generator = torch.Generator().manual_seed(1)
    if kind == "one-hot":
        return one_hot(labels)
    random = torch.rand(len(labels), CLASSES, generator=generator)
    return random.round() if kind == "multi-label" else random


def one_hot(labels: Tensor) -> Tensor:
    targets = torch.zeros(len(labels), CLASSES)
    targets[labels >= 0, labels[labels >= 0]] = 1.0
    return targets


def step(loss: Loss, logits: Tensor, labels: Tensor) -> None:
    logits.grad = None
    loss(logits, labels).backward()


def prepared(loss: Loss, kind: str | None = None) -> Callable[[], None]:
    """A step with labels, or with targets of this kind."""
    logits, labels = inputs()
    step(ours, logits[:4000].detach().requires_grad_(), labels[:4000])  # memory that the first use of threads allocates
    return partial(step, loss, logits, labels if kind is None else targets_of(kind, labels))


def main() -> None:
    print(f"{processor()}, {torch.get_num_threads()} threads")
    logits, labels = inputs()
    compare("focal loss", partial(step, ours, logits, labels), partial(step, theirs, logits, labels))
    for kind, reductions in KINDS.items():
        targets = targets_of(kind, labels)
        for reduction in reductions:
            ours_and_theirs = [partial(step, partial(total, each, reduction), logits, targets) for each in DROP_INS]
            compare(f"drop-in, {kind} targets, {reduction}", ours_and_theirs[0], ours_and_theirs[1])
    print(f"logits: {logits.nbytes / 1e6:.0f} MB")
    for loss in (ours, theirs, whole):
        print(f"peak extra memory, {loss.__name__}: {peak_memory(partial(prepared, loss)):.0f} MB")
    for reduction in ("sum", "mean", "none"):
        peaks = [peak_memory(partial(prepared, partial(total, each, reduction), "soft")) for each in DROP_INS]
        print(f"the same, drop-in, {reduction}: theirs {peaks[1]:.0f} MB, ours {peaks[0]:.0f} MB")


if __name__ == "__main__":
    main()
