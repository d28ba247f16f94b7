"""Detections from raw predictions (paper, section 4.1, inference)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retinanet.config.schema import DetectConfig
from retinanet.config.validation import require_detect_settings
from retinanet.detections import Detections
from retinanet.model.batched_postprocess import detect_batch
from retinanet.model.boxes import area, clip, decode
from retinanet.model.retinanet import Predictions
from retinanet.model.suppression import suppress


@dataclass(frozen=True)
class Stages:
    """The boxes of one image after each stage of `detect`.

    boxes, scores, labels: (C, 4) xyxy pixels of the resized image, (C,), (C,): the candidates, which exceed the
        threshold and are among the `top_k` of their level, in the order of the levels.
    rows: (C_l,) for each level, the anchors of its candidates.
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
    """Threshold, `top_k` of each level, decode, non-maximum suppression per class, the best `max_detections`.

    Args:
        sizes: (height, width) of each resized image without padding. original_sizes: of each image as decoded.
        score_threshold: a detection's score must exceed it; a (K,) float32 tensor gives each class its own.
        clip_first: clip boxes to the image before the suppression (torchvision). False: after it, and drop boxes
            outside the image (detectron2).
    Returns: B Detections in pixels of the original images.
    Raises: ValueError for a threshold outside 0..1, or a `top_k` or `max_detections` below 1.
    """
    threshold = DetectConfig.score_threshold if isinstance(score_threshold, Tensor) else score_threshold
    require_detect_settings(DetectConfig(threshold, top_k, nms_iou, clip_first, max_detections))
    settings = (score_threshold, top_k, nms_iou, max_detections, clip_first)
    if predictions.logits[0].device.type == "cuda":
        return detect_batch(predictions, sizes, original_sizes, *settings)[0]
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
    """`detect` with the boxes after each stage."""
    assert len(sizes) == len(predictions.logits[0])
    images = []
    for i, (size, original) in enumerate(zip(sizes, original_sizes, strict=True)):
        boxes, scores, labels, rows = [], [], [], []
        for logits, deltas, anchors in zip(predictions.logits, predictions.deltas, predictions.anchors, strict=True):
            score, label, row = _best_of_level(logits[i], score_threshold, top_k)  # (C_l,) each
            box = decode(deltas[i, row].float(), anchors[row])  # (C_l, 4)
            boxes.append(clip(box, size) if clip_first else box)
            scores.append(score)
            labels.append(label)
            rows.append(row)
        box, score, label = torch.cat(boxes), torch.cat(scores), torch.cat(labels)  # (C, 4), (C,), (C,)
        survivors = suppress(box, score, label, nms_iou)  # (S,)
        keep = survivors[:max_detections]  # (D,)
        final = clip(to_original(box[keep], size, original), original)  # (D, 4)
        if not clip_first:
            inside = area(final) > 0
            keep, final = keep[inside], final[inside]
        detections = Detections(final.cpu().numpy(), score[keep].cpu().numpy(), label[keep].cpu().numpy())
        images.append(Stages(box, score, label, rows, survivors, detections))
    return images


def to_original(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Scale `boxes` (N, 4) from an image resized to `size` (height, width) to the original image."""
    return boxes * boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)


def _best_of_level(logits: Tensor, score_threshold: float | Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels and anchors, (C_l,) each, of the best `top_k` logits (R_l, K) above the threshold, best first."""
    if isinstance(score_threshold, Tensor):
        logits = logits.masked_fill(torch.sigmoid(logits.float()) <= score_threshold, -torch.inf)
    # the k best scores belong to the k anchors with the highest maxima, so most logits need no sigmoid
    highest = logits.amax(dim=1).topk(min(top_k, len(logits))).indices  # (r,)
    scores = torch.sigmoid(logits[highest].float())  # (r, K)
    candidates = (scores > score_threshold).flatten().nonzero().squeeze(1)
    best, order = scores.flatten()[candidates].topk(min(top_k, len(candidates)))
    candidates, classes = candidates[order], logits.shape[-1]
    return best, candidates % classes, highest[candidates // classes]
