"""From raw predictions to final boxes (paper, section 4.1, inference)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from retinanet.detections import Detections
from retinanet.model.boxes import area, clip, decode
from retinanet.model.retinanet import Predictions


@dataclass(frozen=True)
class Stages:
    """What the stages of `detect` let pass in one image.

    boxes: (C, 4) xyxy pixels of the resized image, scores: (C,), labels: (C,): candidates, that is above the threshold
    and in their level's top k, level after level. rows: of each level, (C_l,) its candidates' anchors.
    survivors: (S,) candidates after non-maximum suppression, best first. detections: the best of these.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rows: list[Tensor]
    survivors: Tensor
    detections: Detections


def detect(
    predictions: Predictions,
    sizes: Sequence[tuple[int, int]],
    original_sizes: Sequence[tuple[int, int]],
    score_threshold: float | Tensor = 0.05,
    top_k: int = 1000,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    clip_first: bool = True,
) -> list[Detections]:
    """Threshold, the best `top_k` of each level, decode, non-maximum suppression per class, the best `max_detections`.

    Paper, section 4.1.

    Args:
        sizes: (height, width) of each resized image without padding. original_sizes: of each image as decoded.
        score_threshold: what a score must exceed; a (K,) float32 tensor: in each class.
        clip_first: cut boxes to the image before the suppression, as torchvision; else after it, as detectron2, where a
            box of which nothing is left is dropped.
    Returns: B Detections in pixels of the original images.
    """
    settings = (score_threshold, top_k, nms_iou, max_detections, clip_first)
    return [stages.detections for stages in detect_stages(predictions, sizes, original_sizes, *settings)]


@torch.no_grad()
def detect_stages(
    predictions: Predictions,
    sizes: Sequence[tuple[int, int]],
    original_sizes: Sequence[tuple[int, int]],
    score_threshold: float | Tensor,
    top_k: int,
    nms_iou: float,
    max_detections: int,
    clip_first: bool = True,
) -> list[Stages]:
    """As `detect`, with what passed each stage on the way."""
    assert len(sizes) == len(predictions.logits[0])
    found = []
    for i, (size, original) in enumerate(zip(sizes, original_sizes, strict=True)):
        boxes, scores, labels, anchor_rows = [], [], [], []
        for logits, deltas, anchors in zip(predictions.logits, predictions.deltas, predictions.anchors, strict=True):
            level, classes = logits[i], logits.shape[-1]  # (R_l, K)
            if isinstance(score_threshold, Tensor):
                level = level.masked_fill(torch.sigmoid(level.float()) <= score_threshold, -torch.inf)
            # the best k of all scores lie in the k anchors of the best highest scores: most need no sigmoid
            highest = level.amax(dim=1).topk(min(top_k, len(level))).indices  # (r,)
            score = torch.sigmoid(level[highest].float())  # (r, K)
            candidates = (score > score_threshold).flatten().nonzero().squeeze(1)
            best, order = score.flatten()[candidates].topk(min(top_k, len(candidates)))
            candidates = candidates[order]
            rows = highest[candidates // classes]
            box = decode(deltas[i, rows].float(), anchors[rows])
            boxes.append(clip(box, size) if clip_first else box)
            scores.append(best)
            labels.append(candidates % classes)
            anchor_rows.append(rows)
        box, score, label = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        survivors = batched_nms(box, score, label, nms_iou)
        keep = survivors[:max_detections]
        final = clip(to_original(box[keep], size, original), original)
        if not clip_first:
            left = area(final) > 0
            keep, final = keep[left], final[left]
        detections = Detections(final.cpu().numpy(), score[keep].cpu().numpy(), label[keep].cpu().numpy())
        found.append(Stages(box, score, label, anchor_rows, survivors, detections))
    return found


def to_original(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """`boxes` (N, 4) in pixels of an image resized to `size` (height, width), in pixels of the original one."""
    return boxes * boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
