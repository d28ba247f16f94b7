"""Online hard example mining: train only some anchors of an image (paper, section 5.1; Shrivastava et al. 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from retinanet.losses.matching import BACKGROUND, IGNORE, require_labels


@torch.no_grad()
def hard_examples(
    logits: Tensor, labels: Tensor, boxes: Tensor, count: int = 128, nms_iou: float = 0.5, check_labels: bool = True
) -> Tensor:
    """The `count` anchors with the highest loss that remain after class-agnostic NMS (paper, section 5.1, table 1d).

    The loss of an anchor is its sigmoid cross entropy, summed over the classes. Of two boxes with IoU > `nms_iou` the
    NMS keeps the one with the higher loss. Ignored anchors are left out.

    Args:
        logits: (R, K). labels: (R,) int64, 0..K-1, BACKGROUND or IGNORE. boxes: (R, 4) decoded, xyxy pixels.
        count: > 0. nms_iou: 0..1. check_labels: whether to check the labels, which waits for a GPU.
    Returns: (n,) int64 rows, highest loss first, n <= count.
    Raises: ValueError for any other label.
    """
    if check_labels:
        require_labels(labels, logits.shape[-1])
    order = _by_falling_loss(logits, labels)
    # only boxes with a higher loss suppress a box, so NMS of the first boxes is enough once it keeps `count`
    size = 8 * count
    while True:
        kept = nms(boxes[order[:size]], torch.arange(0.0, -min(size, len(order)), -1, device=boxes.device), nms_iou)
        if len(kept) >= count or size >= len(order):
            return order[kept[:count]]
        size *= 4


@torch.no_grad()
def hard_examples_1_3(
    logits: Tensor, labels: Tensor, boxes: Tensor, count: int = 128, nms_iou: float = 0.5, check_labels: bool = True
) -> Tensor:
    """Like `hard_examples`, but with three background anchors for each foreground anchor that NMS keeps.

    Paper, section 5.1, "OHEM 1:3", after SSD (Liu et al. 2016). At most a quarter of `count` is foreground. An image
    without foreground trains no anchor.

    Returns: (n,) int64 rows, foreground before background, each with the highest loss first.
    """
    if check_labels:
        require_labels(labels, logits.shape[-1])
    order = _by_falling_loss(logits, labels)
    kept = order[nms(boxes[order], torch.arange(0.0, -len(order), -1, device=boxes.device), nms_iou)]
    foreground = kept[labels[kept] >= 0][: count // 4]
    return torch.cat([foreground, kept[labels[kept] == BACKGROUND][: 3 * len(foreground)]])


def _by_falling_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Rows that are not ignored, highest loss first: (V,) int64."""
    loss = F.softplus(logits.float())
    rows = (labels >= 0).nonzero().squeeze(1)
    loss[rows, labels[rows]] = F.softplus(-logits[rows, labels[rows]].float())
    valid = (labels != IGNORE).nonzero().squeeze(1)
    return valid[loss.sum(dim=1)[valid].argsort(descending=True, stable=True)]
