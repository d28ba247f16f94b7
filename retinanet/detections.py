"""From raw predictions to final boxes (paper, section 4.1, inference)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import batched_nms

from retinanet.boxes import clip, decode
from retinanet.model import Predictions


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first.

    boxes: (D, 4) float32, xyxy pixels of the original image. scores: (D,) float32 in 0..1. labels: (D,) int64 in 0..K-1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@torch.no_grad()
def detect(
    predictions: Predictions,
    sizes: Sequence[tuple[int, int]],
    original_sizes: Sequence[tuple[int, int]],
    score_threshold: float = 0.05,
    top_k: int = 1000,
    nms_iou: float = 0.5,
    max_detections: int = 100,
) -> list[Detections]:
    """Threshold, the best `top_k` of each level, decode, non-maximum suppression per class, the best `max_detections`.

    Paper, section 4.1.

    Args:
        sizes: (height, width) of each resized image without padding. original_sizes: of each image as decoded.
    Returns: B Detections in pixels of the original images.
    """
    assert len(sizes) == len(predictions.logits[0])
    found = []
    for i, (size, original) in enumerate(zip(sizes, original_sizes, strict=True)):
        boxes, scores, labels = [], [], []
        for logits, deltas, anchors in zip(predictions.logits, predictions.deltas, predictions.anchors, strict=True):
            classes = logits.shape[-1]
            score = torch.sigmoid(logits[i].float()).flatten()  # (R_l * K,)
            candidates = (score > score_threshold).nonzero().squeeze(1)
            best, order = score[candidates].topk(min(top_k, len(candidates)))
            candidates = candidates[order]
            rows = candidates // classes
            boxes.append(clip(decode(deltas[i, rows].float(), anchors[rows]), size))
            scores.append(best)
            labels.append(candidates % classes)
        box, score, label = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        keep = batched_nms(box, score, label, nms_iou)[:max_detections]
        scale = box.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
        box = clip(box[keep] * scale, original)
        found.append(Detections(box.cpu().numpy(), score[keep].cpu().numpy(), label[keep].cpu().numpy()))
    return found
