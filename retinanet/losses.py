"""The focal loss, the box losses and their sum over a batch (paper, sections 3 and 4.1)."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from retinanet.boxes import decode, encode
from retinanet.matching import BACKGROUND, IGNORE


def sigmoid_focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t) of independent sigmoids, summed (paper, equation 5).

    Args:
        logits: (N, K), any finite values. labels: (N,) int64, the class 0..K-1 of each row, BACKGROUND (no class is
            right) or IGNORE (the row counts nothing).
        alpha: weight of the right class in 0..1; the others have 1 - alpha. gamma: focusing, >= 0; 0 is cross entropy.
    Returns: scalar float32 (float64 for float64 logits).
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    rows = (labels >= 0).nonzero().squeeze(1)
    right = logits[rows, labels[rows]]  # (F,)
    wrong = _modulated(logits, gamma)  # (N, K), as if no class were right
    wrong[rows, labels[rows]] = 0  # taken out, not subtracted: the rest may be small beside it
    return (1 - alpha) * wrong.sum(dim=1)[labels != IGNORE].sum() + alpha * _modulated(-right, gamma).sum()


def _modulated(x: Tensor, gamma: float) -> Tensor:
    """sigmoid(x)^gamma * -log(1 - sigmoid(x)): what a wrong answer of logit x costs; -x for a right one."""
    loss = F.softplus(x)
    return loss * torch.exp(gamma * F.logsigmoid(x)) if gamma else loss


def box_loss(
    deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, kind: Literal["smooth_l1", "l1", "giou"], beta: float
) -> Tensor:
    """Regression loss, summed: smooth L1 (Girshick 2015) or L1 of the offsets, or GIoU (Rezatofighi et al. 2019).

    Args:
        deltas: (F, 4) predicted offsets. anchors, gt_boxes: (F, 4) xyxy pixels, area > 0.
        beta: where smooth L1 turns from square to straight; 0 makes it L1.
    Returns: scalar.
    """
    if kind == "giou":
        return generalized_box_iou_loss(decode(deltas, anchors), gt_boxes, reduction="sum")
    targets = encode(gt_boxes, anchors)
    return F.smooth_l1_loss(deltas, targets, beta=beta if kind == "smooth_l1" else 0.0, reduction="sum")


def detection_loss(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    matched: Tensor,
    gt_boxes: Sequence[Tensor],
    gt_labels: Sequence[Tensor],
    alpha: float = 0.25,
    gamma: float = 2.0,
    box: Literal["smooth_l1", "l1", "giou"] = "smooth_l1",
    beta: float = 0.11,
) -> dict[str, Tensor]:
    """Loss of a batch: per image summed over all anchors, over its foreground anchors (at least 1), then the mean.

    Paper, section 4.1.

    Args:
        logits: (B, R, K). deltas: (B, R, 4). anchors: (R, 4). matched: (B, R) from `match`.
        gt_boxes: B tensors (M, 4) xyxy pixels. gt_labels: B tensors (M,) int64.
    Returns: {"cls": scalar, "box": scalar}.
    """
    total = {"cls": logits.new_zeros((), dtype=torch.float32), "box": logits.new_zeros((), dtype=torch.float32)}
    for i in range(len(matched)):
        foreground = (matched[i] >= 0).nonzero().squeeze(1)  # (F,)
        objects = matched[i, foreground]
        labels = matched[i].clone()  # (R,): BACKGROUND and IGNORE stay
        labels[foreground] = gt_labels[i][objects]
        count = max(1, len(foreground))
        total["cls"] = total["cls"] + sigmoid_focal_loss(logits[i], labels, alpha, gamma) / count
        moved = deltas[i, foreground].float()
        total["box"] = total["box"] + box_loss(moved, anchors[foreground], gt_boxes[i][objects], box, beta) / count
    return {name: value / len(matched) for name, value in total.items()}


def initial_classification_loss(matched: Tensor, classes: int, prior: float, alpha: float, gamma: float) -> Tensor:
    """The "cls" of `detection_loss` when every score equals `prior`, as fresh subnets give it (paper, section 4.1).

    matched: (B, R) from `match`. Returns: scalar.
    """
    foreground = (matched >= 0).sum(dim=1)  # (B,)
    valid = foreground + (matched == BACKGROUND).sum(dim=1)
    right = alpha * (1 - prior) ** gamma * -math.log(prior)
    wrong = (1 - alpha) * prior**gamma * -math.log1p(-prior)
    return ((foreground * right + (valid * classes - foreground) * wrong) / foreground.clamp(min=1)).mean()
