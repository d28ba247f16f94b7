"""The loss of a batch: match anchors to objects, then sum classification and box losses (paper, sections 4 and 4.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from retinanet.config.schema import AnchorConfig, LossConfig, loss_settings
from retinanet.devices import highest_precision_dtype
from retinanet.distributed import current_processes
from retinanet.losses.atss import match_atss
from retinanet.losses.focal import anchor_cross_entropy, anchor_focal_loss, anchor_focal_star_loss
from retinanet.losses.matching import BACKGROUND, IGNORE, Matching, match, require_labels
from retinanet.losses.ohem import hard_examples, hard_examples_1_3
from retinanet.losses.quality import anchor_quality_focal_loss, anchor_varifocal_loss
from retinanet.losses.sampling import random_examples
from retinanet.model.boxes import decode, encode, iou_of_pairs
from retinanet.model.retinanet import Predictions

BoxLoss = Literal["smooth_l1", "l1", "giou"]
Classification = Callable[[Tensor, Tensor], Tensor]  # (..., R, K) logits and (..., R) labels -> (...) summed loss
QualityLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # the same, with the quality (..., R) of foreground anchors
Mining = Callable[[Tensor, Tensor, Tensor], Tensor]  # (R, K) logits, (R,) labels, (R, 4) boxes -> rows to train
Sampling = Callable[[Tensor, int], Tensor]  # (R,) labels, key of the image -> rows to train
Examples = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # index of the image, then as for `Mining`


@dataclass(frozen=True)
class Targets:
    """The annotated objects of B images.

    boxes: B tensors (M, 4) float32, xyxy pixels. labels: B tensors (M,) int64, 0..K-1. crowd: B tensors (M,) bool.
    keys: B numbers 0..2^63-1 that decide the random sample of each image; only the loss `sampled` needs them.
    """

    boxes: Sequence[Tensor]
    labels: Sequence[Tensor]
    crowd: Sequence[Tensor]
    keys: Sequence[int] = ()


def make_matching(anchors: AnchorConfig) -> Matching:
    """The matching of anchors and objects in training, with this configuration."""
    match anchors.matching:
        case "atss":
            return partial(match_atss, per_cell=len(anchors.scales) * len(anchors.ratios))
        case "iou":
            settings = anchors.foreground_iou, anchors.background_iou, anchors.force_best
            return lambda levels, boxes, crowd: match(torch.cat(list(levels)), boxes, crowd, *settings)


@dataclass
class Criterion:
    """The training loss of a detector: `matching` for each image, then `detection_loss`, with their parameters.

    quality_loss: a classification loss in place of `classification`. The quality of a foreground anchor is the IoU of
        its predicted box with its object; no gradient passes through it.
    sampling: chooses the anchors of the classification loss in place of `mining`, without looking at their losses.
    normalizer: "image" divides the loss of an image by its number of foreground anchors (paper, section 4.1),
        "exponential" divides the loss of the batch by `running_normalizer`, the only state of a criterion.
    """

    classification: Classification = anchor_focal_loss
    quality_loss: QualityLoss | None = None
    mining: Mining | None = None
    sampling: Sampling | None = None
    box: BoxLoss = "smooth_l1"
    beta: float = 0.11
    matching: Matching = make_matching(AnchorConfig())
    normalizer: Literal["image", "exponential"] = "image"
    running_normalizer: float | Tensor = 100.0  # at the first step (detectron2); a plain number from a checkpoint

    def __call__(self, predictions: Predictions, targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {"cls": scalar, "box": scalar}. Updates the running normaliser.

        Raises: ValueError for a label outside 0..K-1, or if `sampling` finds no key for each image.
        """
        return self.losses(predictions, self.match_anchors(predictions.anchors, targets), targets)

    def match_anchors(self, anchors: Sequence[Tensor], targets: Targets) -> Tensor:
        """The object of each anchor, BACKGROUND or IGNORE: (B, R). anchors: (R_l, 4) xyxy pixels for each level."""
        objects = zip(targets.boxes, targets.crowd, strict=True)
        return torch.stack([self.matching(anchors, boxes, crowd) for boxes, crowd in objects])

    def losses(
        self, predictions: Predictions, matched: Tensor, targets: Targets, check_labels: bool = True
    ) -> dict[str, Tensor]:
        """Like `__call__`, for anchors that are already matched.

        matched: (B, R) from `match_anchors`. check_labels: whether to check the labels, which waits for a GPU.
        """
        if check_labels:
            _require_targets(predictions, matched, targets)
        normalizer = None
        if self.normalizer == "exponential":
            # detectron2: running mean (momentum 0.9) of the foreground anchors per batch, at least 1
            exact = highest_precision_dtype(matched.device)
            before = torch.as_tensor(self.running_normalizer, dtype=exact, device=matched.device)
            processes = current_processes()
            foreground = processes.sum((matched >= 0).sum()).clamp(min=1).to(exact)
            self.running_normalizer = 0.9 * before + 0.1 * foreground
            normalizer = self.running_normalizer / processes.world  # the gradients are averaged over the processes
        parts = self.classification, self.quality_loss, self._examples(targets)
        box = partial(box_loss, kind=self.box, beta=self.beta)
        return _detection_loss(predictions, matched, targets, *parts, box, normalizer)

    def _examples(self, targets: Targets) -> Examples | None:
        """How the anchors of the classification loss are chosen; None: all. Raises: ValueError without keys."""
        if self.sampling is None:
            return _of_each_image(self.mining)
        sampling, keys = self.sampling, targets.keys
        if len(keys) != len(targets.boxes):
            raise ValueError(f"there are {len(keys)} keys, expected one for each of {len(targets.boxes)} images")
        return lambda image, logits, labels, boxes: sampling(labels, keys[image])


def make_criterion(loss: LossConfig, anchors: AnchorConfig) -> Criterion:
    """The training loss of a detector with this configuration."""
    settings = loss_settings(loss)
    classification: Classification = anchor_focal_loss
    quality_loss = mining = sampling = None
    match loss.classification:
        case "ohem" | "ohem_1_3" as name:
            mining = partial(hard_examples if name == "ohem" else hard_examples_1_3, check_labels=False, **settings)
            classification = partial(anchor_cross_entropy, check_labels=False)
        case "sampled":
            sampling = partial(random_examples, **settings)
            classification = partial(anchor_cross_entropy, check_labels=False)
        case "ce" | "balanced_ce":
            classification = partial(anchor_cross_entropy, check_labels=False, **settings)
        case "focal":
            classification = partial(anchor_focal_loss, check_labels=False, **settings)
        case "focal_star":
            classification = partial(anchor_focal_star_loss, check_labels=False, **settings)
        case "quality_focal":
            quality_loss = partial(anchor_quality_focal_loss, check_labels=False, **settings)
        case "varifocal":
            quality_loss = partial(anchor_varifocal_loss, check_labels=False, **settings)
    return Criterion(
        classification=classification,
        quality_loss=quality_loss,
        mining=mining,
        sampling=sampling,
        box=loss.box,
        beta=loss.beta,
        matching=make_matching(anchors),
        normalizer=loss.normalizer,
    )


def detection_loss(
    predictions: Predictions,
    matched: Tensor,
    targets: Targets,
    classification: Classification = anchor_focal_loss,
    mining: Mining | None = None,
    box: BoxLoss = "smooth_l1",
    beta: float = 0.11,
    normalizer: float | Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean over the images of the loss of all anchors divided by the number of foreground anchors, at least 1.

    Paper, section 4.1. With `mining`, the classification loss is computed on the mined anchors only and divided by
    their number (paper, section 5.1, OHEM).

    Args:
        predictions: of B images, R anchors over all levels. matched: (B, R) from `match`.
        box, beta: the parameters `kind` and `beta` of `box_loss`.
        normalizer: divides the sum over all images instead of the foreground counts; see `Criterion`.
    Returns: {"cls": scalar, "box": scalar}.
    Raises: ValueError for a label outside 0..K-1, or an anchor matched to an object that is not there.
    """
    _require_targets(predictions, matched, targets)
    examples, by_anchor = _of_each_image(mining), partial(box_loss, kind=box, beta=beta)
    return _detection_loss(predictions, matched, targets, classification, None, examples, by_anchor, normalizer)


def _of_each_image(mining: Mining | None) -> Examples | None:
    return None if mining is None else lambda image, *parts: mining(*parts)


def _require_targets(predictions: Predictions, matched: Tensor, targets: Targets) -> None:
    """Check the labels and the matches of a batch. Raises: ValueError."""
    for labels, objects in zip(targets.labels, matched, strict=True):
        require_labels(labels, predictions.logits[0].shape[-1], lowest=0)
        low, high = (int(value) for value in objects.aminmax()) if len(objects) else (IGNORE, IGNORE)
        if low < IGNORE or high >= len(labels):
            raise ValueError(
                f"an anchor is matched to {low if low < IGNORE else high}, expected one of {len(labels)} objects, "
                f"{BACKGROUND} (background) or {IGNORE} (ignored)"
            )


def _detection_loss(
    predictions: Predictions,
    matched: Tensor,
    targets: Targets,
    classification: Classification,
    quality_loss: QualityLoss | None,
    examples: Examples | None,
    box: Callable[[Tensor, Tensor, Tensor], Tensor],
    normalizer: float | Tensor | None,
) -> dict[str, Tensor]:
    """`detection_loss` of targets that are known to be right. box: `box_loss` with its parameters."""
    logits, deltas = torch.cat(predictions.logits, dim=1), torch.cat(predictions.deltas, dim=1)  # (B, R, K), (B, R, 4)
    anchors = torch.cat(predictions.anchors)  # (R, 4)
    image, row = (matched >= 0).nonzero(as_tuple=True)  # (F,) each; the only line that waits for a GPU
    first = torch.tensor([0, *accumulate(map(len, targets.boxes))]).to(matched.device, non_blocking=True)
    objects = first[image] + matched[image, row]  # (F,), indices into the objects of all images
    labels = matched.clone()  # (B, R): BACKGROUND and IGNORE stay
    labels[image, row] = torch.cat(list(targets.labels))[objects]
    gt_boxes = torch.cat(list(targets.boxes))[objects]  # (F, 4)
    predicted = deltas[image, row].float()  # (F, 4)
    by_anchor = box(predicted, anchors[row], gt_boxes)  # (F,)
    by_image = by_anchor.new_zeros(len(matched)).index_add(0, image, by_anchor)  # (B,)
    foreground = (matched >= 0).sum(dim=1).clamp(min=1)  # (B,)
    divisor = len(matched) * foreground if normalizer is None else normalizer
    if quality_loss is not None:
        quality = by_image.new_zeros(matched.shape)  # (B, R)
        quality[image, row] = iou_of_pairs(decode(predicted.detach(), anchors[row]), gt_boxes)
        cls = (quality_loss(logits, labels, quality) / divisor).sum()
    elif examples is None:
        # not image by image: autograd would allocate a (B, R, K) gradient for each slice
        cls = (classification(logits, labels) / divisor).sum()
    else:
        boxes = decode(deltas.detach().float(), anchors)  # (B, R, 4)
        chosen = [examples(i, logits[i].detach(), labels[i], boxes[i]) for i in range(len(matched))]
        parts = [classification(logits[i, rows], labels[i, rows]) / max(1, len(rows)) for i, rows in enumerate(chosen)]
        cls = torch.stack(parts).mean()
    return {"cls": cls, "box": (by_image / divisor).sum()}


def box_loss(deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, kind: BoxLoss, beta: float) -> Tensor:
    """Box loss of F anchors: smooth L1 (Girshick 2015) or L1 summed over the four deltas, or GIoU (Rezatofighi 2019).

    Args:
        deltas: (F, 4) predicted deltas. anchors, gt_boxes: (F, 4) xyxy pixels, area > 0.
        beta: smooth L1 is quadratic below this difference and linear above; 0 makes it L1.
    Returns: (F,).
    """
    if kind == "giou":
        return generalized_box_iou_loss(decode(deltas, anchors), gt_boxes)
    targets = encode(gt_boxes, anchors)
    return F.smooth_l1_loss(deltas, targets, beta=beta if kind == "smooth_l1" else 0.0, reduction="none").sum(dim=1)
