"""Online hard example mining: which anchors of an image are trained (paper, section 5.1; Shrivastava et al. 2016)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from retinanet.losses.matching import BACKGROUND, IGNORE


@torch.no_grad()
def hard_examples(logits: Tensor, labels: Tensor, boxes: Tensor, count: int = 128, nms_iou: float = 0.5) -> Tensor:
    """The `count` anchors of the highest loss that survive class-agnostic NMS (paper, section 5.1, table 1d).

    An anchor's loss is the sum over the classes of sigmoid cross entropy; the NMS keeps the higher loss of two boxes
    with IoU > `nms_iou`. Ignored anchors take no part.

    Args:
        logits: (R, K). labels: (R,) int64, 0..K-1, BACKGROUND or IGNORE. boxes: (R, 4) decoded, xyxy pixels.
    Returns: (n,) int64, rows by falling loss, n <= count.
    """
    order = _by_falling_loss(logits, labels)
    # a box is suppressed by harder ones alone, so the first boxes' NMS is that of all: exact, and enough as soon as it
    # leaves `count`
    size = 8 * count
    while True:
        kept = nms(boxes[order[:size]], torch.arange(0.0, -min(size, len(order)), -1, device=boxes.device), nms_iou)
        if len(kept) >= count or size >= len(order):
            return order[kept[:count]]
        size *= 4


@torch.no_grad()
def hard_examples_1_3(logits: Tensor, labels: Tensor, boxes: Tensor, count: int = 128, nms_iou: float = 0.5) -> Tensor:
    """As `hard_examples`, but of all that survive the NMS the foreground and three times as many hardest background.

    Paper, section 5.1, "OHEM 1:3", after SSD (Liu et al. 2016). Both together are at most `count`; foreground beyond a
    quarter of it is left out, easiest first. Without foreground nothing is trained.

    Returns: (n,) int64, rows, foreground first, each by falling loss.
    """
    order = _by_falling_loss(logits, labels)
    kept = order[nms(boxes[order], torch.arange(0.0, -len(order), -1, device=boxes.device), nms_iou)]
    foreground = kept[labels[kept] >= 0][: count // 4]
    return torch.cat([foreground, kept[labels[kept] == BACKGROUND][: 3 * len(foreground)]])


def _by_falling_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Rows that are not ignored: (V,) int64."""
    loss = F.softplus(logits.float())
    rows = (labels >= 0).nonzero().squeeze(1)
    loss[rows, labels[rows]] = F.softplus(-logits[rows, labels[rows]].float())
    valid = (labels != IGNORE).nonzero().squeeze(1)
    return valid[loss.sum(dim=1)[valid].argsort(descending=True, stable=True)]
