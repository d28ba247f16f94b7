"""The paper's classification losses, the box losses and their sum over a batch (paper, sections 3 and 4.1)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from retinanet.config.schema import LossConfig, loss_settings
from retinanet.devices import highest_precision_dtype
from retinanet.errors import ConfigError
from retinanet.losses.focal import sigmoid_cross_entropy, sigmoid_focal_loss, sigmoid_focal_star_loss
from retinanet.losses.ohem import hard_examples, hard_examples_1_3
from retinanet.model.boxes import decode, encode


def box_loss(
    deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, kind: Literal["smooth_l1", "l1", "giou"], beta: float
) -> Tensor:
    """Regression loss: smooth L1 (Girshick 2015) or L1 of the offsets, summed, or GIoU (Rezatofighi et al. 2019).

    Args:
        deltas: (F, 4) predicted offsets. anchors, gt_boxes: (F, 4) xyxy pixels, area > 0.
        beta: where smooth L1 turns from square to straight; 0 makes it L1.
    Returns: (F,).
    """
    if kind == "giou":
        return generalized_box_iou_loss(decode(deltas, anchors), gt_boxes)
    targets = encode(gt_boxes, anchors)
    return F.smooth_l1_loss(deltas, targets, beta=beta if kind == "smooth_l1" else 0.0, reduction="none").sum(dim=1)


def detection_loss(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    matched: Tensor,
    gt_boxes: Sequence[Tensor],
    gt_labels: Sequence[Tensor],
    classification: Callable[[Tensor, Tensor], Tensor] = sigmoid_focal_loss,
    mining: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    box: Literal["smooth_l1", "l1", "giou"] = "smooth_l1",
    beta: float = 0.11,
    normalizer: float | Tensor | None = None,
) -> dict[str, Tensor]:
    """Loss of a batch: per image summed over all anchors, over its foreground anchors (at least 1), then the mean.

    Paper, section 4.1. With `mining` the classification loss is that of the mined anchors alone, over their number
    (paper, section 5.1, OHEM); the box loss is that of all foreground anchors as ever.

    Args:
        logits: (B, R, K). deltas: (B, R, 4). anchors: (R, 4). matched: (B, R) from `match`.
        gt_boxes: B tensors (M, 4) xyxy pixels. gt_labels: B tensors (M,) int64.
        classification: (..., R, K) logits and (..., R) labels -> (...) summed loss, as `sigmoid_focal_loss`.
        mining: (R, K) logits, (R,) labels and (R, 4) decoded boxes -> rows to train, as `hard_examples`.
        normalizer: what the sum over all images is divided by in place of all that, as `running_normalizer` gives it.
    Returns: {"cls": scalar, "box": scalar}.
    """
    image, row = (matched >= 0).nonzero(as_tuple=True)  # (F,) each; here alone a GPU is waited for
    first = torch.tensor([0, *accumulate(map(len, gt_boxes))]).to(matched.device, non_blocking=True)  # of all objects
    objects = first[image] + matched[image, row]
    labels = matched.clone()  # (B, R): BACKGROUND and IGNORE stay
    labels[image, row] = torch.cat(list(gt_labels))[objects]
    by_box = box_loss(deltas[image, row].float(), anchors[row], torch.cat(list(gt_boxes))[objects], box, beta)
    boxes = by_box.new_zeros(len(matched)).index_add(0, image, by_box)  # (B,)
    foreground = (matched >= 0).sum(dim=1).clamp(min=1)  # (B,)
    divisor = len(matched) * foreground if normalizer is None else normalizer
    if mining is None:
        # all at once: the gradient of one image's slice is as large as (B, R, K)
        cls = (classification(logits, labels) / divisor).sum()
    else:
        every = decode(deltas.detach().float(), anchors)
        mined = [mining(logits[i].detach(), labels[i], every[i]) for i in range(len(matched))]
        parts = [classification(logits[i, rows], labels[i, rows]) / max(1, len(rows)) for i, rows in enumerate(mined)]
        cls = torch.stack(parts).mean()
    return {"cls": cls, "box": (boxes / divisor).sum()}


def running_normalizer(before: float | Tensor, matched: Tensor) -> Tensor:
    """detectron2's loss normaliser: the exponential mean, of momentum 0.9, of a batch's foreground anchors, from 100 on.

    before: its value at the last step. matched: (B, R) from `match`. Returns: scalar, on the device of `matched`.
    """
    exact = highest_precision_dtype(matched.device)
    before = torch.as_tensor(before, dtype=exact, device=matched.device)  # a checkpoint's is a plain number
    return 0.9 * before + 0.1 * (matched >= 0).sum().clamp(min=1).to(exact)


def make_detection_loss(config: LossConfig, classes: int) -> Callable[..., dict[str, Tensor]]:
    """`detection_loss` as configured. Raises: ConfigError if alpha is a list of another length than `classes`."""
    settings = loss_settings(config)
    alpha = settings.get("alpha")
    if isinstance(alpha, tuple) and len(alpha) != classes:
        raise ConfigError(f"loss.alpha has {len(alpha)} values, expected one number, or {classes}: one for each class")
    mining = None
    match config.classification:
        case "ohem" | "ohem_1_3" as name:
            mining = partial(hard_examples if name == "ohem" else hard_examples_1_3, **settings)
            classification: Callable[[Tensor, Tensor], Tensor] = sigmoid_cross_entropy
        case "ce" | "balanced_ce":
            classification = partial(sigmoid_cross_entropy, **settings)
        case "focal":
            classification = partial(sigmoid_focal_loss, **settings)
        case "focal_star":
            classification = partial(sigmoid_focal_star_loss, **settings)
    return partial(detection_loss, classification=classification, mining=mining, box=config.box, beta=config.beta)
